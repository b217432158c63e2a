//! Which MLflow server a run uses, and with which credentials. Settings name the server; credentials come only from the environment, so
//! that `config.toml` does not record them.

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::Url;

/// The value of `tracking.mlflow` that turns MLflow off.
const OFF: &str = "off";
const ADDRESS: &str = "MLFLOW_TRACKING_URI";

/// The environment variables that MLflow's own clients read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) address: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// The credentials for a server.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    Bearer(String),
    Basic { username: String, password: String },
}

/// A server with its credentials.
#[derive(Clone)]
pub(crate) struct Server {
    url: Url,
    pub(super) credentials: Credentials,
}

impl Environment {
    /// Reads the variables of this process; an empty one counts as missing.
    pub(crate) fn of_process() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            address: read(ADDRESS),
            token: read("MLFLOW_TRACKING_TOKEN"),
            username: read("MLFLOW_TRACKING_USERNAME"),
            password: read("MLFLOW_TRACKING_PASSWORD"),
        }
    }
}

impl Server {
    /// Returns the server that `tracking.mlflow` selects; `None` for no server.
    ///
    /// # Errors
    /// If the address in the settings or the environment is not one that this program can use.
    pub(crate) fn of(setting: &str, environment: &Environment) -> Result<Option<Self>> {
        let url = match (setting, &environment.address) {
            (OFF, _) | ("", None) => return Ok(None),
            ("", Some(address)) => parse(address).with_context(|| {
                format!("{ADDRESS} is \"{address}\", but only a server can be used: start one with `mlflow server`, or set tracking.mlflow to off")
            })?,
            (address, _) => parse(address).context("tracking.mlflow")?,
        };
        let credentials = match environment {
            Environment { username: Some(username), password, .. } => {
                Credentials::Basic { username: username.clone(), password: password.clone().unwrap_or_default() }
            }
            Environment { token: Some(token), .. } => Credentials::Bearer(token.clone()),
            _ => Credentials::None,
        };
        Ok(Some(Self { url, credentials }))
    }

    /// Returns the address without a trailing slash.
    pub(crate) fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// Checks the value of `tracking.mlflow`.
///
/// # Errors
/// If it is neither empty nor `off` nor an address without credentials.
pub fn check_address(setting: &str) -> Result<()> {
    Server::of(setting, &Environment::default()).map(drop)
}

fn parse(address: &str) -> Result<Url> {
    // The message leaves out the address if it may contain a password.
    let expected = "expected an address such as http://127.0.0.1:5000";
    let url = Url::parse(address).map_err(|error| anyhow!("{expected}: {error}"))?;
    ensure!(matches!(url.scheme(), "http" | "https"), "{expected}, found the scheme {}", url.scheme());
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the address contains credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, instead"
    );
    ensure!(url.query().is_none() && url.fragment().is_none(), "{expected}, without ? and #");
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(setting: &str, environment: &Environment, expected: Result<Option<&str>, &str>) {
        match (Server::of(setting, environment), expected) {
            (Ok(server), Ok(expected)) => assert_eq!(server.as_ref().map(Server::address), expected),
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (found, _) => panic!("{setting}: {:?}", found.map(|server| server.map(|server| server.url)).map_err(|error| error.to_string())),
        }
    }

    #[test]
    fn server_of_prefers_settings_to_the_environment() {
        let none = Environment::default();
        let with = |address: &str| Environment { address: Some(address.to_owned()), ..Environment::default() };
        check("", &none, Ok(None));
        check("off", &with("http://a:1"), Ok(None));
        check("", &with("http://a:1/"), Ok(Some("http://a:1")));
        check("https://b/mlflow/", &with("http://a:1"), Ok(Some("https://b/mlflow")));
        check("", &with("databricks"), Err("MLFLOW_TRACKING_URI is \"databricks\""));
        check("", &with("file:///mlruns"), Err("found the scheme file"));
        check("127.0.0.1:5000", &none, Err("expected an address such as http://127.0.0.1:5000"));
        check("http://user:secret@b", &none, Err("MLFLOW_TRACKING_USERNAME"));
        check("http://b/?x", &none, Err("without ?"));
    }

    #[test]
    fn server_of_reads_credentials_from_the_environment() {
        let credentials = |environment: Environment| Server::of("http://a", &environment).unwrap().unwrap().credentials;
        assert!(credentials(Environment::default()) == Credentials::None);
        let token = Environment { token: Some("t".into()), ..Environment::default() };
        assert!(credentials(token.clone()) == Credentials::Bearer("t".into()));
        let user = Environment { username: Some("u".into()), ..token };
        assert!(credentials(user) == Credentials::Basic { username: "u".into(), password: String::new() });
    }
}
