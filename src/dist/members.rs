//! Who takes part: the hosts and devices of all ranks, in one line.

use anyhow::Result;

use super::World;

/// The most hosts that the line names.
const NAMED_HOSTS: usize = 8;

impl World {
    /// Returns the ranks, hosts and devices in one line, such as `4 ranks on 1 host (node0): 4 x cpu`. Every rank calls it with the name of
    /// its device.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn describe(&self, device: &str) -> Result<String> {
        Ok(describe(&self.gather((host(), device.to_owned()))?))
    }
}

/// Returns the name of this machine.
#[cfg(unix)]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the name of this machine.
#[cfg(not(unix))]
pub fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Describes ranks by their hosts and devices, in rank order.
fn describe(ranks: &[(String, String)]) -> String {
    let mut hosts: Vec<(&str, Vec<&str>)> = Vec::new();
    for (host, device) in ranks {
        match hosts.iter_mut().find(|(name, _)| name == host) {
            Some((_, devices)) => devices.push(device),
            None => hosts.push((host, vec![device])),
        }
    }
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let start = format!("{} rank{} on {} host{}", ranks.len(), plural(ranks.len()), hosts.len(), plural(hosts.len()));
    let each: Vec<(&str, String)> = hosts.iter().map(|(host, devices)| (*host, counted(devices))).collect();
    let more = if each.len() > NAMED_HOSTS { ", ..." } else { "" };
    let named = each.iter().take(NAMED_HOSTS);
    match &*each {
        [(_, first), others @ ..] if others.iter().all(|(_, devices)| devices == first) => {
            let names: Vec<&str> = named.map(|(host, _)| *host).collect();
            format!("{start} ({}{more}): {first}{}", names.join(", "), if others.is_empty() { "" } else { " each" })
        }
        _ => format!("{start}: {}{more}", named.map(|(host, devices)| format!("{host} with {devices}")).collect::<Vec<_>>().join(", ")),
    }
}

/// Counts equal devices: `2 x A100 and 1 x H100`.
fn counted(devices: &[&str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for device in devices {
        match counts.iter_mut().find(|(name, _)| name == device) {
            Some((_, count)) => *count += 1,
            None => counts.push((device, 1)),
        }
    }
    counts.into_iter().map(|(device, count)| format!("{count} x {device}")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describe_counts_ranks_hosts_and_devices() {
        let check = |ranks: &[(&str, &str)], expected: &str| {
            let ranks: Vec<_> = ranks.iter().map(|(host, device)| ((*host).to_owned(), (*device).to_owned())).collect();
            assert_eq!(describe(&ranks), expected);
        };
        check(&[("a", "cpu")], "1 rank on 1 host (a): 1 x cpu");
        check(&[("a", "A100"), ("a", "A100")], "2 ranks on 1 host (a): 2 x A100");
        check(&[("a", "A100"), ("b", "A100")], "2 ranks on 2 hosts (a, b): 1 x A100 each");
        check(&[("a", "A100"), ("a", "H100"), ("b", "A100")], "3 ranks on 2 hosts: a with 1 x A100 and 1 x H100, b with 1 x A100");
        let many: Vec<(String, &str)> = (0..9).map(|host| (format!("n{host}"), "cpu")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(host, device)| (&**host, *device)).collect();
        check(&many, "9 ranks on 9 hosts (n0, n1, n2, n3, n4, n5, n6, n7, ...): 1 x cpu each");
    }
}
