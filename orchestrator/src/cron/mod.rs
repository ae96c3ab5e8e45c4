//! When something comes again: a cron expression in a time zone, or a span of time. Pure.
//!
//! Expressions mean what they mean to Vixie cron: five fields, Sunday is 0 and 7, and a day matches by either of its two
//! fields when both are restricted. The crate `cron`, which finds the next local time, has other numbers for weekdays, wants
//! seconds, and loses or doubles firings when clocks change: it is asked about local times without a zone, and the change
//! of clocks is seen to here.

mod syntax;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use self::syntax::Fields;
use crate::{Error, Result};

/// A firing further off than this is refused: nobody means it.
const HORIZON: Days = Days::new(5 * 366);
/// Clocks are changed by less than this: the largest change known, across the date line, is 24 hours.
const CHANGE_MAX: TimeDelta = TimeDelta::hours(26);

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    zone: Tz,
    /// The crate's schedules whose local times together are ours: two when either of the days' fields may match.
    parts: Arc<[cron::Schedule]>,
    /// Comes at fixed times of the day: at each once, however clocks change. Others come whenever the clock on the wall
    /// shows what matches.
    fixed: bool,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.zone) == (&other.text, other.zone)
    }
}

impl Cron {
    /// Reads an expression: five fields (minute, hour, day of the month, month, day of the week), six with a second before
    /// them, or one of `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. `zone` is a name of the IANA's such as
    /// `Europe/Berlin`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field that is wrong and what is right; for a zone that there is not.
    pub fn new(text: &str, zone: &str) -> Result<Self> {
        let fields = syntax::parse(text).map_err(Error::invalid)?;
        let zone = Tz::from_str(zone).map_err(|_| {
            let known: Vec<&str> = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
            let near = crate::config::nearest(zone, &known).map(|near| format!(" Did you mean {near}?"));
            Error::invalid(format!(
                "`{}` is no time zone; write one such as UTC, Europe/Berlin or America/New_York.{}",
                crate::error::excerpt(zone),
                near.unwrap_or_default()
            ))
        })?;
        let parts = parts(&fields)?;
        let Fields([seconds, minutes, hours, ..]) = fields;
        let fixed = !(hours.star || hours.stepped || minutes.star || seconds.star);
        Ok(Self { text: text.trim().into(), zone, parts: parts.into(), fixed })
    }

    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the zone.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first firing behind an instant; `None` when there is none within five years.
    ///
    /// Where clocks go forward, what is fixed to a time that is left out comes once, right behind the gap; where they go
    /// back, once, when the time is shown first. What comes every so often (`*` or a step in the hours, `*` in the minutes)
    /// comes whenever the clock shows what matches.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let end = instant.checked_add_days(HORIZON)?;
        let next = if self.fixed { self.next_fixed(instant, end) } else { self.next_shown(instant, end) };
        next.filter(|next| *next <= end)
    }

    /// The next local time that matches.
    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        // As if it were UTC, where clocks are never changed.
        let after = after.and_utc();
        self.parts.iter().filter_map(|part| part.after(&after).next()).min().map(|next| next.naive_utc())
    }

    /// When each matching time is shown first. These instants come in the order of the times.
    fn next_fixed(&self, instant: DateTime<Utc>, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut local = self.local(instant);
        let last = self.local(end);
        loop {
            local = self.next_local(local).filter(|local| *local <= last)?;
            let shown = match self.zone.from_local_datetime(&local).earliest() {
                Some(shown) => shown.with_timezone(&Utc),
                None => self.behind_gap(local),
            };
            if shown > instant {
                return Some(shown);
            }
        }
    }

    /// Each instant whose local time matches: from one change of clocks to the next, instants and times go side by side.
    fn next_shown(&self, instant: DateTime<Utc>, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let second = TimeDelta::seconds(1);
        let mut from = DateTime::from_timestamp(instant.timestamp(), 0)? + second;
        loop {
            let offset = self.offset(from);
            let next = self.next_local(from.naive_utc() + offset - second).map(|local| (local - offset).and_utc());
            match self.first_change(from, next.map_or(end, |next| next.min(end))) {
                Some(change) => from = change,
                None => return next,
            }
        }
    }

    fn offset(&self, instant: DateTime<Utc>) -> TimeDelta {
        TimeDelta::seconds(self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc().into())
    }

    fn local(&self, instant: DateTime<Utc>) -> NaiveDateTime {
        instant.naive_utc() + self.offset(instant)
    }

    /// The first change of clocks behind `from`, up to `to`.
    fn first_change(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = self.offset(from);
        let mut low = from;
        while low < to {
            let high = (low + TimeDelta::days(1)).min(to);
            if self.offset(high) != before {
                return Some(first_second(low, high, |instant| self.offset(instant) != before));
            }
            low = high;
        }
        None
    }

    /// The first instant whose local time lies behind one that is left out.
    fn behind_gap(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let near = local.and_utc();
        first_second(near - CHANGE_MAX, near + CHANGE_MAX, |instant| self.local(instant) > local)
    }
}

/// The first second of an interval, its beginning excluded, that has what its end has and its beginning has not.
fn first_second(low: DateTime<Utc>, high: DateTime<Utc>, has: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (low.timestamp(), high.timestamp());
    let at = |second| DateTime::from_timestamp(second, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if has(at(middle)) { high = middle } else { low = middle }
    }
    at(high)
}

/// The expression in the crate's words.
fn parts(fields: &Fields) -> Result<Vec<cron::Schedule>> {
    let Fields([second, minute, hour, day, month, weekday]) = fields;
    let list = |field: &syntax::Field, most: u32, shift: u32| {
        let values: Vec<String> =
            (0..=most).filter(|value| field.has(*value)).map(|value| (value + shift).to_string()).collect();
        values.join(",")
    };
    let (days, weekdays) = (list(day, 31, 0), list(weekday, 6, 1));
    // Vixie cron: either of the two matches when both are restricted, else both do.
    let pairs = match day.star || weekday.star {
        true => vec![(days, weekdays)],
        false => vec![(days, "*".into()), ("*".into(), weekdays)],
    };
    let (second, minute, hour, month) =
        (list(second, 59, 0), list(minute, 59, 0), list(hour, 23, 0), list(month, 12, 0));
    let part = |(days, weekdays): (String, String)| {
        let text = format!("{second} {minute} {hour} {days} {month} {weekdays}");
        text.parse().map_err(|error| Error::invalid(format!("the cron expression cannot be read: {error}")))
    };
    pairs.into_iter().map(part).collect()
}
