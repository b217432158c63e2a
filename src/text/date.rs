//! The current date in chat templates, taken from the clock or fixed by a setting. Independent of what is rendered.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::civil::Date;
use jiff::fmt::strtime;
use minijinja::{Error, ErrorKind};

/// The supported `strftime` directives, for the date and the time of day. jiff has more, but some differ from Python's.
const DIRECTIVES: &str = "YymdeBbhAaFDjHMSIpRT%";
/// The directives for which glibc's `%-` omits padding.
const UNPADDED: &str = "demj";

/// Returns the current date in UTC.
pub(super) fn now() -> Date {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let first = jiff::civil::date(1970, 1, 1);
    // If the clock is beyond the last year of the calendar, it is wrong, so any date will do.
    first.checked_add(std::time::Duration::from_secs(seconds)).unwrap_or(first)
}

/// Parses a date, `YYYY-MM-DD`, from 1970 to 9999.
///
/// # Errors
/// If the text is not such a date. The message gives the expected format.
pub(super) fn parse(text: &str) -> Result<Date> {
    let date = || {
        let parts: Vec<i16> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [year @ 1970..=9999, month, day] = parts[..] else { return None };
        Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
    };
    date().with_context(|| format!("{text:?} is not a date; expected YYYY-MM-DD, for example 2024-07-26"))
}

/// Returns today's date in UTC as `YYYY-MM-DD`.
pub fn today() -> String {
    now().to_string()
}

/// Checks that a text is a date, `YYYY-MM-DD`.
///
/// # Errors
/// If it is not. The message gives the expected format.
pub fn check(text: &str) -> Result<()> {
    parse(text).map(|_| ())
}

/// Formats a date with `strftime` directives. The time of day is always midnight, so that a prompt does not change during the day.
///
/// # Errors
/// If a directive is not supported.
pub(super) fn strftime(format: &str, date: Date) -> Result<String, Error> {
    let unknown = |flag: &str, directive: Option<char>| {
        let directive = directive.map_or_else(String::new, String::from);
        Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not support %{flag}{directive}")))
    };
    let mut characters = format.chars();
    while characters.by_ref().any(|character| character == '%') {
        match characters.next() {
            Some('-') => match characters.next() {
                Some(directive) if UNPADDED.contains(directive) => {}
                other => return unknown("-", other),
            },
            Some(directive) if DIRECTIVES.contains(directive) => {}
            other => return unknown("", other),
        }
    }
    strtime::format(format, date.at(0, 0, 0, 0)).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_calendar_dates_only() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(parse(text).ok().map(|date| date.to_string()).as_deref(), expected, "{text}");
        };
        check("2024-07-26", Some("2024-07-26"));
        check("2024-7-6", Some("2024-07-06"));
        check("2000-02-29", Some("2000-02-29"));
        check("9999-12-31", Some("9999-12-31"));
        for bad in
            ["", "2024", "2023-02-29", "2100-02-29", "2024-13-01", "2024-04-31", "1969-12-31", "10000-01-01", "2024-07-26-1", "24-07-26x"]
        {
            check(bad, None);
        }
        assert_eq!(parse("x").unwrap_err().to_string(), "\"x\" is not a date; expected YYYY-MM-DD, for example 2024-07-26");
    }

    #[test]
    fn strftime_formats_like_glibc() {
        let date = parse("2024-03-05").unwrap();
        let check = |format: &str, expected: &str| assert_eq!(strftime(format, date).unwrap(), expected, "{format}");
        check("%Y %y %m %d|%e|%B %b %h %A %a", "2024 24 03 05| 5|March Mar Mar Tuesday Tue");
        check("%F %D %j", "2024-03-05 03/05/24 065");
        check("%H:%M:%S %I %p %R %T", "00:00:00 12 AM 00:00 00:00:00");
        check("%-d %-e %-m %-j", "5 5 3 65");
        check("100%% – %%d", "100% – %d");
        for (format, directive) in [("%Q", "%Q"), ("%", "%"), ("%-", "%-"), ("%-Y", "%-Y"), ("%é", "%é"), ("%s", "%s"), ("%5d", "%5")] {
            let error = strftime(format, date).unwrap_err().to_string();
            assert!(error.ends_with(&format!("strftime_now does not support {directive}")), "{error}");
        }
    }
}
