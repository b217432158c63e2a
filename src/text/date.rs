//! Today's date as templates print it, real or fixed by a setting. It must never know what is rendered.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use minijinja::{Error, ErrorKind};

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    year: i64,
    month: usize,
    day: i64,
    /// Days since 1970-01-01, a Thursday.
    since_epoch: i64,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

impl Date {
    /// Today, in UTC.
    pub(super) fn today() -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        Self::from_days((seconds / 86_400) as i64)
    }

    /// `YYYY-MM-DD`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let parts: Vec<i64> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>().unwrap_or_default();
        if let [year @ 1970..=9999, month @ 1..=12, day @ 1..=31] = parts[..] {
            // Walking from the first of the year keeps the calendar's rules in one place, `from_days`.
            let first = (year - 1970) * 365 + (year - 1969) / 4 - (year - 1901) / 100 + (year - 1601) / 400;
            let found =
                (first..first + 366).map(Self::from_days).find(|date| date.year == year && date.month as i64 == month && date.day == day);
            if let Some(date) = found {
                return Ok(date);
            }
        }
        bail!("{text:?} is not a date; expected YYYY-MM-DD, for example 2024-07-26")
    }

    fn day_of_year(self) -> i64 {
        let before = |back: &i64| *back <= self.since_epoch && Self::from_days(self.since_epoch - back).year == self.year;
        (0..).take_while(before).count() as i64
    }

    fn from_days(since_epoch: i64) -> Self {
        let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let (mut year, mut day) = (1970, since_epoch.max(0));
        while day >= 365 + i64::from(leap(year)) {
            day -= 365 + i64::from(leap(year));
            year += 1;
        }
        let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while month < 11 && day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        Self { year, month: month + 1, day: day + 1, since_epoch: since_epoch.max(0) }
    }
}

/// Today in UTC, as `YYYY-MM-DD`.
pub fn today() -> String {
    let Date { year, month, day, .. } = Date::today();
    format!("{year}-{month:02}-{day:02}")
}

/// Refuses what is no date.
///
/// # Errors
/// Says how a date is written.
pub fn check(text: &str) -> Result<()> {
    Date::parse(text).map(|_| ())
}

/// The date directives of `strftime`; those of the time of day say midnight, so that a prompt is the same all day.
pub(super) fn strftime(format: &str, date: Date) -> Result<String, Error> {
    let month = MONTHS[date.month - 1];
    let weekday = WEEKDAYS[(date.since_epoch % 7) as usize];
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('Y') => text += &date.year.to_string(),
            Some('y') => text += &format!("{:02}", date.year % 100),
            Some('m') => text += &format!("{:02}", date.month),
            Some('d') => text += &format!("{:02}", date.day),
            Some('e') => text += &format!("{:2}", date.day),
            Some('B') => text += month,
            Some('b' | 'h') => text += &month[..3],
            Some('A') => text += weekday,
            Some('a') => text += &weekday[..3],
            Some('F') => text += &format!("{}-{:02}-{:02}", date.year, date.month, date.day),
            Some('D') => text += &format!("{:02}/{:02}/{:02}", date.month, date.day, date.year % 100),
            Some('j') => text += &format!("{:03}", date.day_of_year()),
            Some('H' | 'M' | 'S') => text += "00",
            Some('I') => text += "12",
            Some('p') => text += "AM",
            Some('R') => text += "00:00",
            Some('T') => text += "00:00:00",
            // glibc's way to leave out the padding.
            Some('-') => match characters.next() {
                Some('d' | 'e') => text += &date.day.to_string(),
                Some('m') => text += &date.month.to_string(),
                Some('j') => text += &date.day_of_year().to_string(),
                other => return Err(unknown(&format!("-{}", other.unwrap_or_default()))),
            },
            Some('%') => text.push('%'),
            other => return Err(unknown(&other.map_or_else(String::new, String::from))),
        }
    }
    Ok(text)
}

fn unknown(directive: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know %{directive}"))
}
