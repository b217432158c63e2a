//! Computes the waits between attempts. Independent of what is sent.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};

/// The maximum wait between attempts, unless the server requests a longer one.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The maximum wait that a server can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Returns the wait before each retry: `first`, doubled each time up to a minute, and scaled by a random factor between 1/2 and 1, so that
/// requests that failed at the same time are retried at different times.
pub fn waits(first: Duration, retries: u32) -> impl Iterator<Item = Duration> {
    // backon scales its delays by a random factor between 1 and 2, so pass half of ours.
    let (first, longest) = (first / 2, MAX_BACKOFF / 2);
    let waits = ExponentialBuilder::new().with_jitter().with_min_delay(first.min(longest)).with_max_delay(longest);
    waits.with_max_times(retries as usize).build()
}

/// Parses the value of a `Retry-After` header: a number of seconds, or a date in one of the three formats of RFC 9110. Returns at most one
/// hour, or `None` if the value is neither.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter() {
        let check = |first_ms: u64, longest_ms: &[u64]| {
            for _ in 0..100 {
                let waits: Vec<Duration> = waits(Duration::from_millis(first_ms), longest_ms.len() as u32).collect();
                assert_eq!(waits.len(), longest_ms.len());
                for (wait, longest) in waits.iter().zip(longest_ms) {
                    // backon computes in f32.
                    let share = wait.as_secs_f64() / Duration::from_millis(*longest).as_secs_f64();
                    assert!((0.4999..1.0001).contains(&share), "{wait:?} of {longest} ms");
                }
            }
        };
        check(500, &[500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        check(90_000, &[60_000, 60_000]);
        check(500, &[]);
        assert_eq!(waits(Duration::ZERO, 1).collect::<Vec<_>>(), [Duration::ZERO]);
        let first = || waits(Duration::from_secs(10), 1).next();
        assert!((0..100).any(|_| first() != first()), "the waits have no jitter");
    }

    #[test]
    fn parse_retry_after_parses_seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |value: &str, expected_s: Option<f64>| {
            assert_eq!(parse_retry_after(value, now), expected_s.map(Duration::from_secs_f64), "{value}");
        };
        check("0", Some(0.0));
        check(" 120 ", Some(120.0));
        check("1.5", Some(1.5));
        check("86400", Some(3600.0));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0.0));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30.0));
        check("Sat, 05 Nov 1994 08:50:07 GMT", Some(0.0));
        check("Tue, 29 Feb 2028 00:00:00 GMT", Some(3600.0));
        check("Sunday, 06-Nov-94 08:50:07 GMT", Some(30.0));
        check("Sun Nov  6 08:50:07 1994", Some(30.0));
        for bad in
            ["", "-1", "NaN", "inf", "soon", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Non 1994 08:49:37 GMT", "Sun, 06 Nov 19 08:49:37 GMT"]
        {
            check(bad, None);
        }
    }
}
