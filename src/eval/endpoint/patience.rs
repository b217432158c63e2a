//! How long to wait before a request is sent again: pure functions of what happened.

use std::time::{Duration, SystemTime};

/// No wait of our own choosing is longer.
const LONGEST_OWN: Duration = Duration::from_secs(60);
/// No server is waited for longer, whatever it asks.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The wait before the retry number `retry` (from 0): `first`, doubled each time up to a minute, of which a share between a half and all is
/// taken as `chance` (in [0, 1)) has it, so that requests that failed together do not come back together. What the server asked for comes on top.
pub fn wait(first: Duration, retry: u32, chance: f64, asked: Option<Duration>) -> Duration {
    let own = first.saturating_mul(1 << retry.min(16)).min(LONGEST_OWN).mul_f64(0.5 + 0.5 * chance);
    own + asked.unwrap_or_default()
}

/// The wait that a `Retry-After` asks for: seconds, or a date of RFC 9110 (`Sun, 06 Nov 1994 08:49:37 GMT`). At most an hour; none where it
/// is neither.
pub fn asked(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => date(value)?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST_ASKED))
}

fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let number = |text: &str| text.parse::<u64>().ok();
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let parts: Vec<u64> = time.split(':').map(number).collect::<Option<_>>()?;
    let ([hour, minute, second], day, year) = (parts[..].try_into().ok()?, number(day)?, number(year)?);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of its year.
    let march_year = if month > 2 { year } else { year - 1 };
    let before_month = (153 * ((month + 9) % 12) + 2) / 5;
    let days = 365 * march_year + march_year / 4 - march_year / 100 + march_year / 400 + before_month + day - 1 - 719_468;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_spread() {
        let check = |retry: u32, chance: f64, asked_s: Option<u64>, expected_ms: u64| {
            let wait = wait(Duration::from_millis(500), retry, chance, asked_s.map(Duration::from_secs));
            assert_eq!(wait, Duration::from_millis(expected_ms), "{retry} {chance}");
        };
        check(0, 0.0, None, 250);
        check(0, 0.5, None, 375);
        check(3, 0.0, None, 2000);
        check(7, 0.0, None, 30_000);
        check(4_000_000_000, 0.0, None, 30_000);
        check(1, 0.0, Some(20), 20_500);
    }

    #[test]
    fn servers_ask_in_seconds_or_by_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |value: &str, expected_s: Option<f64>| {
            assert_eq!(asked(value, now), expected_s.map(Duration::from_secs_f64), "{value}");
        };
        check("0", Some(0.0));
        check(" 120 ", Some(120.0));
        check("1.5", Some(1.5));
        check("86400", Some(3600.0));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0.0));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30.0));
        check("Sat, 05 Nov 1994 08:50:07 GMT", Some(0.0));
        check("Tue, 29 Feb 2028 00:00:00 GMT", Some(3600.0));
        for bad in
            ["", "-1", "NaN", "inf", "soon", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Non 1994 08:49:37 GMT", "Sun, 06 Nov 19 08:49:37 GMT"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn dates_are_seconds_since_1970() {
        let check = |text: &str, expected_s: u64| {
            assert_eq!(date(text), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(expected_s)), "{text}");
        };
        check("Thu, 01 Jan 1970 00:00:00 GMT", 0);
        check("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777);
        check("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600);
        check("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800);
        check("Fri, 31 Dec 2100 23:59:59 GMT", 4_133_980_799);
    }
}
