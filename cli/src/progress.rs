//! The running steps, drawn in place below the lines of those that have ended. Only a terminal shows them: in a pipe
//! every entry of the journal is a line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::name::OperatorName;
use lockstep_core::plan::Plan;
use lockstep_core::run::journal::{Direction, Entry, Event};
use lockstep_core::time::{Millis, Timestamp};

use crate::clock::now;
use crate::failure::Result;
use crate::output::{Output, length};

/// How often elapsed times are drawn.
const TICK: Duration = Duration::from_millis(100);

/// A host's name may have 63 characters; a line has 80.
const HOST_WIDTH_MAX: usize = 20;

const STEP: &str = "  {spinner} {prefix} {took:16} {wide_msg:.dim}";

/// What stands before the output of a step beside its prefix: the spinner, and the times.
const AROUND_PREFIX: usize = 4 + 1 + 16 + 1;

/// Two lines: whose deployment it is, and what an interrupt does.
const WHOLE: &str = "    {wide_msg:.dim}\n    Ctrl-C leaves, it continues";

/// Whose deployment it is.
pub struct Head {
    pub id: DeploymentId,
    pub by: OperatorName,
    pub since: Timestamp,
}

pub struct Progress {
    output: Output,
    bars: MultiProgress,
    running: BTreeMap<StepId, ProgressBar>,
    whole: Option<ProgressBar>,
    head: Option<Head>,
    done: usize,
}

impl Progress {
    pub fn new(output: Output) -> Self {
        let target =
            if output.is_live() { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        Self {
            output,
            bars: MultiProgress::with_draw_target(target),
            running: BTreeMap::new(),
            whole: None,
            head: None,
            done: 0,
        }
    }

    /// Shows whose deployment it is, below the running steps.
    pub fn head(&mut self, head: Head) {
        self.head = Some(head);
    }

    /// Shows an entry as `lines`. On a terminal a step that begins is drawn instead, and has its lines when it ends.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn entry(&mut self, plan: &Plan, entry: &Entry, lines: &[String]) -> Result<()> {
        match &entry.event {
            Event::Begun { step, direction } if self.output.is_live() => {
                self.begin(plan, *step, *direction, entry.at);
                return Ok(());
            }
            Event::Done { step, .. } | Event::Failed { step, .. } => {
                self.done += 1;
                if let Some(bar) = self.running.remove(step) {
                    bar.finish_and_clear();
                }
            }
            Event::Ended { .. } | Event::Stuck { .. } => self.clear(),
            Event::RevertStarted { .. } => self.done = 0,
            Event::LockTaken { .. }
            | Event::Begun { .. }
            | Event::Excluded { .. }
            | Event::Resumed { .. }
            | Event::UndoDeferred { .. } => {}
        }
        self.draw_whole(plan);
        // A line that is written past the bars would be drawn over.
        self.bars.suspend(|| self.output.lines(lines))
    }

    /// Shows the last line of a step's output.
    pub fn tail(&self, step: StepId, line: &str) {
        if let Some(bar) = self.running.get(&step) {
            let line = self.output.shown(line);
            let before = AROUND_PREFIX + console::measure_text_width(&bar.prefix());
            bar.set_message(whole_words(&line, self.output.columns().saturating_sub(before)));
        }
    }

    /// Removes everything that is drawn.
    pub fn clear(&mut self) {
        for bar in std::mem::take(&mut self.running).into_values().chain(self.whole.take()) {
            bar.finish_and_clear();
        }
    }

    fn begin(&mut self, plan: &Plan, id: StepId, direction: Direction, at: Timestamp) {
        let Some(step) = plan.step(id) else { return };
        let (undo, usual) = match direction {
            Direction::Do => ("", step.usual),
            Direction::Undo => ("undo ", None),
        };
        let style = style(STEP).with_key("took", move |_: &ProgressState, line: &mut dyn Write| {
            // A line that cannot be drawn is drawn again in a moment.
            let _drawn = line.write_str(&took(at, usual));
        });
        let bar = ProgressBar::new_spinner().with_style(style);
        let bar = match &self.whole {
            Some(whole) => self.bars.insert_before(whole, bar),
            None => self.bars.add(bar),
        };
        let host: String = step.host_name.as_str().chars().take(HOST_WIDTH_MAX).collect();
        bar.set_prefix(format!("{id:4} {undo}{:10} {host}", step.action.name()));
        bar.enable_steady_tick(TICK);
        self.running.insert(id, bar);
        self.draw_whole(plan);
    }

    fn draw_whole(&mut self, plan: &Plan) {
        if !self.output.is_live() || self.running.is_empty() {
            return;
        }
        let bars = &self.bars;
        let since = self.head.as_ref().map(|head| head.since);
        let whole = self.whole.get_or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner().with_style(whole_style(since)));
            bar.enable_steady_tick(TICK);
            bar
        });
        let counts = format!("{} of {} steps", self.done, plan.steps().count());
        // The time that has passed stands before it.
        let room = self.output.columns().saturating_sub("    59 min · ".len());
        whole.set_message(whose(self.head.as_ref(), &counts, room));
        whole.tick();
    }
}

/// Whose deployment it is and how far it got; what has no room is left out, and no word is cut.
fn whose(head: Option<&Head>, counts: &str, room: usize) -> String {
    let Some(Head { id, by, .. }) = head else { return counts.to_owned() };
    let forms = [format!("{id} by {by} · {counts}"), format!("{id} · {counts}")];
    let fits = |form: &String| console::measure_text_width(form) <= room;
    forms.into_iter().find(fits).unwrap_or_else(|| counts.to_owned())
}

/// As many words of `text` as have room, with `…` where some are left out.
fn whole_words(text: &str, room: usize) -> String {
    if console::measure_text_width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for word in text.split(' ') {
        let width = console::measure_text_width(&kept) + console::measure_text_width(word);
        if width + " …".len() > room {
            break;
        }
        kept.push_str(word);
        kept.push(' ');
    }
    kept + "…"
}

/// `3.2 s of ~12.0 s`
fn took(since: Timestamp, usual: Option<Millis>) -> String {
    let took = tenths(now().since(since));
    usual.map_or_else(|| took.clone(), |usual| format!("{took} of ~{}", tenths(usual)))
}

/// In tenths of a second: nobody reads milliseconds while they pass.
fn tenths(length: Millis) -> String {
    match length.0 {
        ms @ 0..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000.. => length.to_string(),
    }
}

fn whole_style(since: Option<Timestamp>) -> ProgressStyle {
    let Some(since) = since else { return style(WHOLE) };
    style("    {took} · {wide_msg:.dim}\n    Ctrl-C leaves, it continues").with_key(
        "took",
        move |_: &ProgressState, line: &mut dyn Write| {
            // As for a step.
            let _drawn = line.write_str(&length(now().since(since)));
        },
    )
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a constant that is a template").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_deployment_leaves_out_whole_parts() {
        let head = |by: &str| Head {
            id: "dep_01JBQR2KXYZ987654321012345".parse().unwrap(),
            by: by.parse().unwrap(),
            since: Timestamp(0),
        };
        let (anna, long) = (head("anna"), head(&"a".repeat(24)));
        assert_eq!(
            whose(Some(&anna), "3 of 11 steps", 67),
            "dep_01JBQR2KXYZ987654321012345 by anna · 3 of 11 steps"
        );
        assert_eq!(whose(Some(&long), "3 of 11 steps", 67), "dep_01JBQR2KXYZ987654321012345 · 3 of 11 steps");
        assert_eq!(whose(Some(&anna), "3 of 11 steps", 27), "3 of 11 steps");
        assert_eq!(whose(None, "3 of 11 steps", 67), "3 of 11 steps");
    }

    #[test]
    fn the_output_of_a_step_is_cut_between_words() {
        assert_eq!(whole_words("healthy under traffic", 21), "healthy under traffic");
        assert_eq!(whole_words("healthy under traffic", 20), "healthy under …");
        assert_eq!(whole_words("healthy under traffic", 5), "…");
    }
}
