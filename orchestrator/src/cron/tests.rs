//! Cron expressions against what is said of them, against every second of a change of clocks looked at one by one, and
//! against another implementation.

use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Apia",
    "America/St_Johns",
];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect(text)
}

fn firings(cron: &Cron, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut found = Vec::new();
    let mut last = from;
    while let Some(next) = cron.next_after(last).filter(|next| *next <= to) {
        assert!(next > last, "{cron:?} goes back from {last} to {next}");
        found.push(next);
        last = next;
    }
    found
}

/// The local times, as texts, of the first firings behind an instant.
fn shown(text: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
    let cron = Cron::new(text, zone).expect(text);
    let firings = firings(&cron, at(from), at(from) + TimeDelta::days(400));
    firings.iter().take(n).map(|at| at.with_timezone(&cron.zone).format("%m-%dT%H:%M%:z").to_string()).collect()
}

#[test]
fn weekdays_and_days_mean_what_they_mean_to_cron() {
    let from = "2026-01-01T00:00:00Z"; // a Thursday
    let days =
        |text: &str, n| -> Vec<String> { shown(text, "UTC", from, n).iter().map(|day| day[..5].to_owned()).collect() };
    for sunday in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly", "0 0 ? * 7"] {
        assert_eq!(days(sunday, 2), ["01-04", "01-11"], "{sunday}");
    }
    assert_eq!(days("0 0 * * 1", 2), ["01-05", "01-12"]);
    assert_eq!(days("0 0 * * 5-7", 4), ["01-02", "01-03", "01-04", "01-09"]);
    assert_eq!(days("0 0 * * fri-sun", 4), ["01-02", "01-03", "01-04", "01-09"]);
    // Either of two that are restricted; both, when one begins with a star.
    assert_eq!(days("0 0 13 * fri", 4), ["01-02", "01-09", "01-13", "01-16"]);
    assert_eq!(days("0 0 */2 * mon", 3), ["01-05", "01-19", "02-09"]);
    assert_eq!(days("0 0 29 feb *", 0), Vec::<String>::new());
    assert_eq!(Cron::new("0 0 29 2 *", "UTC").expect("fair").next_after(at(from)), Some(at("2028-02-29T00:00:00Z")));
    assert_eq!(days("@yearly", 1), ["01-01"]);
    assert_eq!(shown("10/20 5 * * *", "UTC", from, 3), ["01-01T05:10+00:00", "01-01T05:30+00:00", "01-01T05:50+00:00"]);
    let seconds = Cron::new("*/30 * * * * *", "UTC").expect("six fields");
    assert_eq!(seconds.next_after(at(from)), Some(at("2026-01-01T00:00:30Z")));
    assert_eq!(seconds.next_after(at("2026-01-01T00:00:29.999Z")), Some(at("2026-01-01T00:00:30Z")));
    assert_eq!(seconds.next_after(at("2026-01-01T00:00:30.001Z")), Some(at("2026-01-01T00:01:00Z")));
}

#[test]
fn where_clocks_are_changed_nothing_is_lost_and_nothing_comes_twice() {
    let (spring, autumn) = ("2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z");
    let berlin = |text: &str, from: &str, n| shown(text, "Europe/Berlin", from, n);
    // Fixed times: once behind the gap, once in the overlap, at the first pass.
    assert_eq!(berlin("30 2 * * *", spring, 2), ["03-29T03:00+02:00", "03-30T02:30+02:00"]);
    assert_eq!(berlin("0,30 2 * * *", spring, 2), ["03-29T03:00+02:00", "03-30T02:00+02:00"]);
    assert_eq!(berlin("0 2,3 * * *", spring, 2), ["03-29T03:00+02:00", "03-30T02:00+02:00"]);
    assert_eq!(berlin("30 2 * * *", autumn, 2), ["10-25T02:30+02:00", "10-26T02:30+01:00"]);
    // What comes every so often: none that the clock does not show, and all that it shows twice.
    assert_eq!(
        berlin("30 * * * *", "2026-03-29T00:00:00Z", 3),
        ["03-29T01:30+01:00", "03-29T03:30+02:00", "03-29T04:30+02:00"]
    );
    assert_eq!(
        berlin("30 * * * *", "2026-10-25T00:00:00Z", 3),
        ["10-25T02:30+02:00", "10-25T02:30+01:00", "10-25T03:30+01:00"]
    );
    assert_eq!(
        berlin("*/30 2 * * *", "2026-10-24T12:00:00Z", 4),
        ["10-25T02:00+02:00", "10-25T02:30+02:00", "10-25T02:00+01:00", "10-25T02:30+01:00"]
    );
    // Half an hour is left out, and shown twice.
    let lord_howe = |text: &str, from: &str, n| shown(text, "Australia/Lord_Howe", from, n);
    assert_eq!(lord_howe("15 2 * * *", "2026-10-03T12:00:00Z", 1), ["10-04T02:30+11:00"]);
    assert_eq!(lord_howe("45 1 * * *", "2026-04-04T12:00:00Z", 2), ["04-05T01:45+11:00", "04-06T01:45+10:30"]);
    assert_eq!(lord_howe("45 * * * *", "2026-04-04T14:30:00Z", 2), ["04-05T01:45+11:00", "04-05T01:45+10:30"]);
    // A whole day that was left out.
    let apia = shown("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3);
    assert_eq!(apia, ["12-29T09:00-10:00", "12-31T00:00+14:00", "12-31T09:00+14:00"]);
}

#[test]
fn what_cannot_be_is_refused_and_the_field_named() {
    let fault = |text: &str| Cron::new(text, "UTC").expect_err(text).to_string();
    for (text, said) in [
        ("", "has 0 fields; a cron expression has five"),
        ("* * * *", "has 4 fields"),
        ("0 0 1 1 * 2027 1", "has 7 fields"),
        ("60 * * * *", "`60` is no minute; that is 0 to 59"),
        ("* 24 * * *", "`24` is no hour; that is 0 to 23"),
        ("* * 0 * *", "`0` is no day of the month; that is 1 to 31"),
        ("* * * 13 *", "`13` is no month; that is 1 to 12 or jan to dec"),
        ("* * * * 8", "`8` is no day of the week; that is 0 to 7 or sun to sat"),
        ("* * * * fry", "`fry` is no day of the week"),
        ("61 * * * * *", "`61` is no second"),
        ("*/0 * * * *", "the step `0` of the minute"),
        ("*/x * * * *", "the step `x` of the minute"),
        ("30-10 * * * *", "the range `30-10` of the minute runs backwards"),
        ("1,,2 * * * *", "`` is no minute"),
        ("+5 * * * *", "`+5` is no minute"),
        ("* * L * *", "L, W and # are not known here"),
        ("* * * * 5#2", "L, W and # are not known here"),
        ("@reboot", "those that begin with @ are @hourly @daily"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
    ] {
        assert!(fault(text).contains(said), "{text}: {}", fault(text));
    }
    assert!(fault(&"*,".repeat(200)).contains("at most 256 characters"));
    let zone = |zone: &str| Cron::new("@daily", zone).expect_err(zone).to_string();
    assert!(zone("Europe/Berln").contains("Did you mean Europe/Berlin?"), "{}", zone("Europe/Berln"));
    assert!(zone("").contains("is no time zone"));
    // The 29th of a February that is a Sunday, a Tuesday … : some of them are too far off.
    let rare = Cron::new("0 0 29 2 */6", "UTC").expect("there are such days");
    assert_eq!(rare.next_after(at("2033-01-01T00:00:00Z")), None);
}

fn field(random: &mut StdRng, least: u32, most: u32) -> String {
    let number = |random: &mut StdRng| random.random_range(least..=most);
    match random.random_range(0..10) {
        0..=3 => "*".into(),
        4..=6 => number(random).to_string(),
        7 => format!("*/{}", random.random_range(1..=most.max(2) / 2)),
        8 => {
            let (a, b) = (number(random), number(random));
            format!("{}-{}", a.min(b), a.max(b))
        }
        _ => format!("{},{}", number(random), number(random)),
    }
}

fn expression(random: &mut StdRng) -> String {
    loop {
        // Minutes that are no star, mostly: else there is too much to compare.
        let minute =
            if random.random_range(0..8) == 0 { field(random, 0, 59) } else { random.random_range(0..60).to_string() };
        let hour =
            if random.random_range(0..3) == 0 { random.random_range(0..4).to_string() } else { field(random, 0, 23) };
        let (day, month) = (field(random, 1, 31), field(random, 1, 12));
        let month = if random.random_range(0..3) > 0 { "*".into() } else { month };
        let weekday = if random.random_range(0..2) > 0 { "*".into() } else { field(random, 0, 7) };
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        if syntax::parse(&text).is_ok() {
            return text;
        }
    }
}

/// What comes in an interval, found by looking at every local second that may matter: nothing is shared with what is tested
/// but the fields' sets.
fn by_looking(text: &str, zone: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let Fields([second, minute, hour, day, month, weekday]) = syntax::parse(text).expect(text);
    let zone: Tz = zone.parse().expect(zone);
    let matches = |local: NaiveDateTime| {
        let (of_month, of_week) = (day.has(local.day()), weekday.has(local.weekday().num_days_from_sunday()));
        let either = if day.star || weekday.star { of_month && of_week } else { of_month || of_week };
        second.has(local.second())
            && minute.has(local.minute())
            && hour.has(local.hour())
            && month.has(local.month())
            && either
    };
    let minutes = |from: i64, to: i64| (from.div_euclid(60)..=to.div_euclid(60)).map(|minute| minute * 60);
    let local = |instant: DateTime<Utc>| instant.with_timezone(&zone).naive_local();
    let mut found = std::collections::BTreeSet::new();
    let wild = hour.star || hour.stepped || minute.star;
    // Every zone here is off UTC by whole minutes.
    let mut shown_before = local(from - TimeDelta::minutes(1500));
    for at in minutes((from - TimeDelta::minutes(1499)).timestamp(), to.timestamp()) {
        let instant = DateTime::from_timestamp(at, 0).expect("an instant");
        let now = local(instant);
        if wild {
            if matches(now) {
                found.insert(instant);
            }
            continue;
        }
        // All that the clock has come to or has left out since, if it has not been there before.
        let mut time = shown_before;
        while time < now {
            time += TimeDelta::minutes(1);
            if matches(time) {
                found.insert(instant);
            }
        }
        shown_before = shown_before.max(now);
    }
    found.into_iter().filter(|instant| *instant > from && *instant <= to).collect()
}

#[test]
fn every_expression_comes_when_looking_at_every_minute_says_so() {
    let mut random = StdRng::seed_from_u64(5);
    // Weeks with changes of clocks, all over the world, and one without.
    let weeks = [
        (2026, 3, 6),
        (2026, 3, 26),
        (2026, 4, 2),
        (2026, 10, 1),
        (2026, 10, 23),
        (2026, 10, 30),
        (2011, 12, 28),
        (2011, 9, 22),
        (2026, 7, 1),
    ];
    for _ in 0..300 {
        let text = expression(&mut random);
        let zone = ZONES.choose(&mut random).expect("a zone");
        let (year, month, day) = *weeks.choose(&mut random).expect("a week");
        let from =
            NaiveDate::from_ymd_opt(year, month, day).expect("a day").and_hms_opt(7, 30, 0).expect("a time").and_utc();
        let to = from + TimeDelta::days(4);
        let cron = Cron::new(&text, zone).expect(&text);
        assert_eq!(firings(&cron, from, to), by_looking(&text, zone, from, to), "{text} in {zone} from {from}");
    }
}

/// Over years, against the crate `croner`. Where the two differ by croner's own decisions the expression is not compared:
/// it takes `*/2` in a day field for a restriction (Vixie cron does not), and it takes for fixed only what has one value
/// in seconds, minutes and hours (Vixie cron: what has no star in minutes and hours), which shows in hours 0 to 3 alone.
#[test]
fn every_expression_comes_over_years_when_another_implementation_says_so() {
    let mut random = StdRng::seed_from_u64(7);
    let mut compared = 0;
    while compared < 400 {
        let text = expression(&mut random);
        let Fields([_, minute, hour, day, _, weekday]) = syntax::parse(&text).expect(&text);
        let steps = |field: &syntax::Field| field.star && field.stepped;
        let ours_fixed = !(hour.star || hour.stepped || minute.star);
        let single = |field: &syntax::Field| field.set.count_ones() == 1 && !field.star && !field.stepped;
        let theirs_fixed = single(&minute) && single(&hour);
        let (early, days) = ((0..4).any(|h| hour.has(h)), steps(&day) || steps(&weekday));
        if days || ours_fixed != theirs_fixed && early {
            continue;
        }
        compared += 1;
        let zone = ZONES.choose(&mut random).expect("a zone");
        let cron = Cron::new(&text, zone).expect(&text);
        let croner = croner::Cron::from_str(&text).expect(&text);
        // Samoa left a day out in 2011, which croner takes for no gap: it is compared since then.
        let from = at("2012-01-01T00:00:00Z") + TimeDelta::days(random.random_range(0..6000));
        let (mut ours, mut theirs) = (from, from.with_timezone(&cron.zone));
        for _ in 0..60 {
            let Some(next) = cron.next_after(ours) else { break };
            ours = next;
            theirs = croner.find_next_occurrence(&theirs, false).expect(&text);
            assert_eq!(ours, theirs, "{text} in {zone} from {from}");
            if ours - from > TimeDelta::days(4 * 366) {
                break;
            }
            // Mostly on to the next firing, at times a leap ahead.
            if random.random_range(0..6) == 0 {
                ours += TimeDelta::minutes(random.random_range(0..200_000));
                theirs = ours.with_timezone(&cron.zone);
            }
        }
    }
}
