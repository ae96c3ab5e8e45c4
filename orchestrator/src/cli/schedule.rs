//! `schedule add`, `list`, `show`, `next`, `pause`, `resume`, `trigger` and `remove`.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use comfy_table::Cell;
use orchestrator::{
    CatchUp, NewTask, Orchestrator, Overlap, SCHEDULES_PAGE_MAX, Schedule, ScheduleChange, ScheduleStatus, Span,
    Triggered,
};
use serde_json::{Value, json};

use super::approve::user;
use super::failure::Failure;
use super::new_task::{NewTaskArgs, span};
use super::output::{Output, cell, distance, note, plain};

const EXPRESSION: &str = "\
A cron expression has five fields: minute (0-59), hour (0-23), day of the month (1-31), month (1-12 or jan-dec), day of the
week (0-7 or sun-sat; 0 and 7 are Sunday). A field is *, a number, a range 1-5, a list 1,5 or a step */5. When both days are
given, either may match. Six fields have a second before them. @hourly, @daily, @weekly, @monthly and @yearly are short forms.

Where clocks go forward, a fixed time that is left out comes right behind the gap; where they go back, once. What comes every
so often (* or a step in the hours, * in the minutes) comes whenever the clock shows it.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Have a task made again and again
    Add(Box<Add>),
    /// List the schedules by name
    List,
    /// Show one schedule
    Show(Name),
    /// Print the next ticks of a schedule, or of an expression without any Redis
    Next(Next),
    /// Stop a schedule; ticks that come meanwhile are not made up for
    Pause(Name),
    /// Go on with the next tick
    Resume(Name),
    /// Start a run now, by the rules of the schedule
    Trigger(Name),
    /// Remove a schedule; without --yes only tells what would be removed
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = EXPRESSION, group = ArgGroup::new("when").required(true).args(["cron", "every"]))]
pub(crate) struct Add {
    /// Its name: 1 to 64 of a-z 0-9 _ . -
    name: String,
    #[command(flatten)]
    task: NewTaskArgs,
    /// When it comes, as an expression: '30 2 * * mon-fri'
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// When it comes, as a span of time: 10m; at its multiples since 1970 (UTC)
    #[arg(long, value_name = "SPAN", value_parser = span)]
    every: Option<Span>,
    /// Time zone of the expression [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    tz: Option<String>,
    /// What becomes of a tick while the last run has not ended
    #[arg(long, default_value = "skip", value_parser = PossibleValuesParser::new(["skip", "queue", "replace", "allow"]).try_map(|o| o.parse::<Overlap>()))]
    overlap: Overlap,
    /// What becomes of ticks that came while no worker and no gateway was there
    #[arg(long, default_value = "latest", value_parser = PossibleValuesParser::new(["latest", "all", "skip"]).try_map(|c| c.parse::<CatchUp>()))]
    catch_up: CatchUp,
    /// How far back those are made up for
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = span)]
    catch_up_within: Span,
    /// Tenant that schedule and tasks belong to
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Put it in the place of the schedule that has this name
    #[arg(long)]
    replace: bool,
    /// Only check it and print its next ticks
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The schedule
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = EXPRESSION, group = ArgGroup::new("of").required(true).args(["name", "cron"]))]
pub(crate) struct Next {
    /// The schedule
    name: Option<String>,
    /// An expression, instead of a schedule
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Time zone of the expression [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    tz: Option<String>,
    /// How many, 1 to 100
    #[arg(short, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    n: u8,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The schedule
    name: String,
    /// Remove it
    #[arg(long)]
    yes: bool,
}

impl Command {
    /// Carries out what needs no Redis.
    pub(super) fn alone(&self, out: &mut Output) -> Option<Result<(), Failure>> {
        match self {
            Self::Next(Next { cron: Some(cron), tz, n, .. }) => Some(expression(cron, tz.as_deref(), *n, out)),
            _ => None,
        }
    }
}

fn expression(cron: &str, zone: Option<&str>, n: u8, out: &mut Output) -> Result<(), Failure> {
    let schedule = Schedule::cron("x", cron, NewTask::<Value>::new("x", &())).tz(zone.unwrap_or("UTC"));
    let ticks = schedule.upcoming(Utc::now(), n.into())?;
    if ticks.is_empty() {
        return Err(Failure::refused("it does not come within five years"));
    }
    tell_ticks(&ticks, zone, out)
}

pub(super) async fn run(orch: &Orchestrator, command: Command, out: &mut Output) -> Result<(), Failure> {
    let schedules = orch.schedules();
    match command {
        Command::Add(command) => add(orch, *command, out).await,
        Command::List => list(orch, out).await,
        Command::Show(Name { name }) => show(&schedules.get(&name).await?, out),
        Command::Next(Next { name, n, .. }) => {
            let name = name.unwrap_or_default();
            let zone = schedules.get(&name).await?.time_zone;
            tell_ticks(&schedules.upcoming(&name, n.into()).await?, zone.as_deref(), out)
        }
        Command::Pause(Name { name }) => {
            let changed = schedules.pause(&name, user().as_deref()).await?;
            paused(&name, true, changed, out)
        }
        Command::Resume(Name { name }) => paused(&name, false, schedules.resume(&name).await?, out),
        Command::Trigger(Name { name }) => match schedules.trigger_by(&name, user().as_deref()).await? {
            Triggered::Started(id) if out.is_json() => out.object(&json!({ "name": name, "task_id": id })),
            Triggered::Started(id) => out.line(&id.to_string()),
            Triggered::Waits if out.is_json() => out.object(&json!({ "name": name, "task_id": null })),
            Triggered::Waits => out.line("it waits for the end of the last run"),
        },
        Command::Remove(Remove { name, yes }) => {
            let there = schedules.get(&name).await?;
            if yes {
                schedules.remove(&name).await?;
            }
            if out.is_json() {
                return out.object(&json!({ "name": name, "removed": yes }));
            }
            out.line(&match yes {
                true => format!("schedule {name} is removed"),
                false => format!(
                    "schedule {name}, {} makes {}, would be removed; --yes removes it",
                    when(&there),
                    there.task.task_type
                ),
            })
        }
    }
}

async fn add(orch: &Orchestrator, command: Add, out: &mut Output) -> Result<(), Failure> {
    let who = command.task.asked_by();
    let mut task = command.task.task()?;
    if let Some(tenant) = &command.tenant {
        task = task.tenant(tenant);
    }
    let mut schedule = match (&command.cron, command.every) {
        (Some(cron), _) => Schedule::cron(&command.name, cron, task),
        (None, Some(every)) => Schedule::every(&command.name, every, task),
        (None, None) => return Err(Failure::usage("say when it comes: --cron or --every")),
    };
    if let Some(zone) = &command.tz {
        schedule = schedule.tz(zone);
    }
    if let Some(who) = &who {
        schedule = schedule.made_by(who);
    }
    let schedule =
        schedule.overlap(command.overlap).catch_up(command.catch_up).catch_up_within(command.catch_up_within);
    if command.dry_run {
        schedule.check()?;
        return tell_ticks(&schedule.upcoming(Utc::now(), 5)?, command.tz.as_deref(), out);
    }
    let change = match command.replace {
        true => orch.schedules().put(&schedule).await?,
        false => orch.schedules().add(&schedule).await?,
    };
    let there = orch.schedules().get(&command.name).await?;
    if out.is_json() {
        return out.object(&there);
    }
    note(match change {
        ScheduleChange::Created => "it is new",
        ScheduleChange::Changed => "it has changed",
        ScheduleChange::Same => "it was there as it is",
    });
    show(&there, out)
}

async fn list(orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
    let (mut cursor, mut rows): (Option<String>, _) = (None, Vec::new());
    loop {
        let page = orch.schedules().list(None, cursor.as_deref(), SCHEDULES_PAGE_MAX).await?;
        for schedule in &page.schedules {
            if out.is_json() {
                out.object(schedule)?;
            } else {
                rows.push(row(schedule));
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    match out.is_json() {
        true => Ok(()),
        false => out.table(&["NAME", "WHEN", "TYPE", "NEXT", "LAST", "RUNS", "STATE"], rows),
    }
}

fn row(schedule: &ScheduleStatus) -> Vec<Cell> {
    let next = schedule.upcoming.first().map(|next| format!("in {}", distance(*next))).unwrap_or_default();
    let last = schedule.last_tick.map(|last| format!("{} ago", distance(last))).unwrap_or_default();
    vec![
        Cell::new(&schedule.name),
        cell(&when(schedule), 40),
        Cell::new(&schedule.task.task_type),
        Cell::new(next),
        Cell::new(last),
        Cell::new(schedule.fired),
        Cell::new(state(schedule)),
    ]
}

/// What stands out about a schedule.
fn state(schedule: &ScheduleStatus) -> String {
    match (schedule.paused, &schedule.error, schedule.waiting.len()) {
        (true, ..) => "paused".into(),
        (_, Some(error), _) => format!("failing: {}", plain(&error.error, 60)),
        (_, _, 0) if schedule.last_is_live => "running".into(),
        (_, _, 0) => String::new(),
        (_, _, waiting) => format!("running, {waiting} wait"),
    }
}

fn when(schedule: &ScheduleStatus) -> String {
    match (&schedule.cron, &schedule.time_zone, &schedule.every) {
        (Some(cron), Some(zone), _) if zone != "UTC" => format!("{cron} {zone}"),
        (Some(cron), ..) => cron.clone(),
        (None, _, Some(every)) => format!("every {every}"),
        (None, _, None) => String::new(),
    }
}

fn show(schedule: &ScheduleStatus, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(schedule);
    }
    let zone = schedule.time_zone.as_deref();
    let instant = |at: Option<DateTime<Utc>>| at.map(|at| local(at, zone)).unwrap_or_default();
    let next: Vec<String> = schedule.upcoming.iter().map(|at| local(*at, zone)).collect();
    let error = schedule.error.as_ref().map(|error| format!("{} at {}", error.error, local(error.at, zone)));
    for (name, text) in [
        ("name", schedule.name.clone()),
        ("when", when(schedule)),
        ("type", schedule.task.task_type.clone()),
        ("payload", schedule.task.payload.to_string()),
        ("overlap", schedule.overlap.to_string()),
        ("catch up", format!("{} within {}", schedule.catch_up, schedule.catch_up_within)),
        ("made by", schedule.made_by.clone().unwrap_or_default()),
        ("tenant", schedule.task.tenant.clone().unwrap_or_default()),
        ("paused by", schedule.paused_by.clone().unwrap_or_default()),
        ("state", state(schedule)),
        ("next", next.join("  ")),
        ("last", instant(schedule.last_tick)),
        ("last task", schedule.last_task_id.map(|id| id.to_string()).unwrap_or_default()),
        ("ticks", format!("{} run, {} skipped, {} missed", schedule.fired, schedule.skipped, schedule.missed)),
        ("error", error.unwrap_or_default()),
    ] {
        if !text.is_empty() {
            out.line(&format!("{name:<10} {}", plain(&text, 400)))?;
        }
    }
    Ok(())
}

/// An instant as a clock in that zone shows it.
fn local(at: DateTime<Utc>, zone: Option<&str>) -> String {
    match zone.and_then(|zone| zone.parse::<chrono_tz::Tz>().ok()) {
        Some(zone) => at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, true),
        None => at.to_rfc3339_opts(SecondsFormat::Secs, true),
    }
}

fn tell_ticks(ticks: &[DateTime<Utc>], zone: Option<&str>, out: &mut Output) -> Result<(), Failure> {
    for tick in ticks {
        match out.is_json() {
            true => out.object(&json!({ "tick": tick, "local": local(*tick, zone) }))?,
            false => out.line(&local(*tick, zone))?,
        }
    }
    Ok(())
}

fn paused(name: &str, paused: bool, changed: bool, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(&json!({ "name": name, "paused": paused, "changed": changed }));
    }
    out.line(&format!(
        "schedule {name} {}",
        match (paused, changed) {
            (true, true) => "is paused",
            (true, false) => "was paused already",
            (false, true) => "is resumed",
            (false, false) => "was not paused",
        }
    ))
}
