//! Business hours: which minutes of a week count for a promise.

use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::{Error, Result};

/// Days ahead for which a task's clock knows the hours; behind them all time counts.
const DAYS: u64 = 84;

/// Hours that count: days, times and zone, as in `mon-fri 09:00-17:00 Europe/Berlin` or `mon,wed,sat 08:00-12:00 UTC`. A
/// clock knows them for twelve weeks from the task's creation; behind that all time counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    days: [bool; 7],
    from: NaiveTime,
    to: NaiveTime,
    zone: Tz,
}

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl FromStr for Hours {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: String| {
            let text = crate::error::excerpt(text);
            Error::invalid(format!(
                "`{text}` are no hours: {what}. Write them like `mon-fri 09:00-17:00 Europe/Berlin`"
            ))
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [days, times, zone] = words.as_slice() else {
            return Err(wrong("they have three parts, days, times and a zone".into()));
        };
        let day = |name: &str| {
            let at = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known));
            at.ok_or_else(|| wrong(format!("`{name}` is no day; known are {}", NAMES.join(", "))))
        };
        let mut wanted = [false; 7];
        for part in days.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (day(first)?, day(last)?);
            wanted[at] = true;
            while at != last {
                at = (at + 1) % 7;
                wanted[at] = true;
            }
        }
        let time = |text: &str| {
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| wrong(format!("`{text}` is no time such as 09:00")))
        };
        let (from, to) = times.split_once('-').ok_or_else(|| wrong("the times are written 09:00-17:00".into()))?;
        let (from, to) = (time(from)?, time(to)?);
        if from >= to {
            return Err(wrong("they end before they begin".into()));
        }
        let zone = zone.parse().map_err(|_| wrong(format!("`{zone}` is no zone such as UTC or Europe/Berlin")))?;
        Ok(Self { days: wanted, from, to, zone })
    }
}

impl Hours {
    /// The windows that count from the day of an instant on, in minutes since 1970.
    pub(crate) fn windows(&self, from_ms: u64) -> Vec<(u64, u64)> {
        let begin: DateTime<Utc> = crate::task::instant(from_ms);
        let first = begin.with_timezone(&self.zone).date_naive();
        let window = |day: NaiveDate| {
            let at = |time| self.zone.from_local_datetime(&day.and_time(time));
            // A time that a change of the clock leaves out moves to the next hour; one that comes twice is the first.
            let at =
                |time: NaiveTime| at(time).earliest().or_else(|| at(time + chrono::TimeDelta::hours(1)).earliest());
            let minutes = |time| Some(u64::try_from(at(time)?.timestamp()).ok()? / 60);
            minutes(self.from).zip(minutes(self.to)).filter(|(from, to)| from < to)
        };
        (0..DAYS)
            .filter_map(|ahead| first.checked_add_days(Days::new(ahead)))
            .filter(|day| self.days[day.weekday().num_days_from_monday() as usize])
            .filter_map(window)
            .collect()
    }
}

/// The instant when `ms` milliseconds within the windows have passed, as `clock.lua` has it.
pub(crate) fn after(windows: &[(u64, u64)], from: u64, mut ms: u64) -> u64 {
    let mut last = 0;
    for (a, b) in windows {
        last = b * 60_000;
        let begin = from.max(a * 60_000);
        if begin + ms <= last {
            return begin + ms;
        }
        ms -= last.saturating_sub(begin);
    }
    from.max(last) + ms
}

/// Milliseconds between two instants that count, as `clock.lua` has it.
pub(crate) fn counted(windows: &[(u64, u64)], from: u64, to: u64) -> u64 {
    let within = |(a, b): &(u64, u64)| (b * 60_000).min(to).saturating_sub((a * 60_000).max(from));
    let last = windows.last().map_or(0, |(_, b)| b * 60_000);
    windows.iter().map(within).sum::<u64>() + to.saturating_sub(from.max(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<DateTime<Utc>>().expect("an instant").timestamp_millis()).expect("after 1970")
    }

    #[test]
    fn time_counts_within_the_hours_only_and_clocks_may_change() {
        let hours: Hours = "mon-fri 09:00-17:00 Europe/Berlin".parse().expect("hours");
        let hour = 3_600_000;
        let after = |from: &str, h: u64| after(&hours.windows(ms(from)), ms(from), h * hour);
        // Friday 16:00 in Berlin (summer): one hour left, the rest on Monday; the clock changes on Sunday, 2026-10-25.
        assert_eq!(after("2026-10-23T14:00:00Z", 3), ms("2026-10-26T10:00:00Z"));
        // In the night: begins at nine.
        assert_eq!(after("2026-11-24T02:00:00Z", 1), ms("2026-11-24T09:00:00Z"));
        assert_eq!(after("2026-11-24T10:00:00Z", 2), ms("2026-11-24T12:00:00Z"));
        // Behind the last known window all time counts.
        let windows = hours.windows(ms("2026-11-24T10:00:00Z"));
        assert_eq!(windows.len(), 60);
        assert!(after("2026-11-24T10:00:00Z", 1000) > windows[59].1 * 60_000);
    }

    #[test]
    fn weekends_can_be_named_and_slips_are() {
        let hours: Hours = "sat-mon,WED 00:00-23:59 UTC".parse().expect("hours");
        assert_eq!(hours.days, [true, false, true, false, false, true, true]);
        for (text, said) in [
            ("mon-fri 9-5 UTC", "is no time"),
            ("mon-fri 17:00-09:00 UTC", "end before they begin"),
            ("mon-fri 09:00-17:00 Berlin", "is no zone"),
            ("mon-fre 09:00-17:00 UTC", "is no day"),
            ("always", "three parts"),
        ] {
            let fault = text.parse::<Hours>().expect_err(text).to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
