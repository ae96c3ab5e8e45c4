//! The text of a cron expression: what it may say, and what is told to whoever wrote something else.
//!
//! Nothing but the standard library is used here: the attribute of the worker crate reads expressions with this same file.

/// One field: which of its values match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Bit n: the value n matches.
    pub(crate) set: u64,
    /// Begins with `*`: Vixie cron takes such a field as no restriction where that matters.
    pub(crate) star: bool,
    /// Has a step.
    pub(crate) stepped: bool,
}

/// The six fields: seconds, minutes, hours, days of the month, months, days of the week (Sunday = 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) [Field; 6]);

struct Kind {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const KINDS: [Kind; 6] = [
    Kind { name: "second", least: 0, most: 59, names: &[] },
    Kind { name: "minute", least: 0, most: 59, names: &[] },
    Kind { name: "hour", least: 0, most: 23, names: &[] },
    Kind { name: "day of the month", least: 1, most: 31, names: &[] },
    Kind { name: "month", least: 1, most: 12, names: &MONTHS },
    Kind { name: "day of the week", least: 0, most: 7, names: &DAYS },
];
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
/// Longest expression, in bytes.
const TEXT_MAX: usize = 256;

/// Days of the longest form of each month.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Reads an expression.
///
/// # Errors
/// Says which field is wrong, and what is right.
pub(crate) fn parse(text: &str) -> Result<Fields, String> {
    let shown = excerpt(text);
    if text.len() > TEXT_MAX {
        return Err(format!("a cron expression has at most {TEXT_MAX} characters, not {}", text.len()));
    }
    let trimmed = text.trim();
    let long = match trimmed.strip_prefix('@') {
        None => trimmed,
        Some(_) => match NICKNAMES.iter().find(|(name, _)| trimmed.eq_ignore_ascii_case(name)) {
            Some((_, long)) => long,
            None => {
                let known: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "`{shown}` is no cron expression; those that begin with @ are {}",
                    known.join(" ")
                ));
            }
        },
    };
    let mut words: Vec<&str> = long.split_whitespace().collect();
    match words.len() {
        5 => words.insert(0, "0"),
        6 => {}
        n => {
            return Err(format!(
                "`{shown}` has {n} field{}; a cron expression has five, minute hour day-of-month month day-of-week, \
                 such as \"30 2 * * mon-fri\", or six with a second before them",
                if n == 1 { "" } else { "s" }
            ));
        }
    }
    let mut fields = [Field { set: 0, star: false, stepped: false }; 6];
    for ((field, kind), word) in fields.iter_mut().zip(&KINDS).zip(words) {
        *field = kind.read(word).map_err(|why| format!("in the cron expression `{shown}`: {why}"))?;
    }
    let [_, _, _, days, months, weekdays] = &fields;
    let fits = |month: u32| months.has(month) && (1..=LONGEST[month as usize - 1]).any(|day| days.has(day));
    // A day of the week that is named too may match by itself.
    if (days.star || weekdays.star) && !(1..=12).any(fits) {
        return Err(format!("`{shown}` never comes: none of its months has such a day"));
    }
    Ok(Fields(fields))
}

impl Field {
    /// Whether a value matches.
    pub(crate) fn has(&self, value: u32) -> bool {
        self.set >> value & 1 == 1
    }
}

impl Kind {
    fn read(&self, word: &str) -> Result<Field, String> {
        let day = self.name.starts_with("day");
        let word = if day && word == "?" { "*" } else { word };
        let mut field = Field { set: 0, star: word.starts_with('*'), stepped: word.contains('/') };
        for item in word.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => {
                    let step: u32 = step.parse().ok().filter(|step| (1..=1000).contains(step)).ok_or_else(|| {
                        format!(
                            "the step `{}` of the {} is no whole number from 1 on, as in */5",
                            excerpt(step),
                            self.name
                        )
                    })?;
                    (range, Some(step))
                }
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.least, if self.names.len() == 7 { 6 } else { self.most }),
                Some((first, last)) => {
                    let (first, mut last) = (self.value(first)?, self.value(last)?);
                    // Sunday ends a week as well as it begins one.
                    if self.names.len() == 7 && last == 0 && first > 0 {
                        last = 7;
                    }
                    if first > last {
                        return Err(format!(
                            "the range `{}` of the {} runs backwards; write it as two, with a comma",
                            excerpt(range),
                            self.name
                        ));
                    }
                    (first, last)
                }
                None if step.is_some() => {
                    (self.value(range)?, self.most.min(if self.names.len() == 7 { 6 } else { 59 }))
                }
                None => (self.value(range)?, self.value(range)?),
            };
            for value in (first..=last).step_by(step.unwrap_or(1) as usize) {
                field.set |= 1 << (if self.names.len() == 7 { value % 7 } else { value });
            }
        }
        Ok(field)
    }

    /// One number or name.
    fn value(&self, text: &str) -> Result<u32, String> {
        if let Some(at) = self.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
            return Ok(at as u32 + self.least);
        }
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|value| digits && (self.least..=self.most).contains(value));
        number.ok_or_else(|| {
            let names = match self.names {
                [] => String::new(),
                [first, .., last] => format!(" or {first} to {last}"),
                [one] => format!(" or {one}"),
            };
            let (least, most) = (self.least, self.most);
            let hint = match text.to_ascii_uppercase() {
                text if text.contains(['L', 'W', '#']) && self.names.is_empty() | text.contains('#') => {
                    "; L, W and # are not known here"
                }
                _ => "",
            };
            format!(
                "`{}` is no {}; that is {least} to {most}{names}, or *, a range 1-5, a list 1,5 or a step */5{hint}",
                excerpt(text),
                self.name
            )
        })
    }
}

/// At most 40 characters, without control characters.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}
