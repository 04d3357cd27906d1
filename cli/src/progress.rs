//! What runs, drawn in place below the lines of what has ended. Only a terminal sees it; in a pipe every entry is
//! a line.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockstep_core::id::StepId;
use lockstep_core::journal::{Direction, Entry, Event};
use lockstep_core::plan::Plan;

use crate::failure::Result;
use crate::output::Output;

/// How often elapsed times move.
const TICK: Duration = Duration::from_millis(100);

const STEP: &str = "  {spinner} {prefix} {elapsed:.dim} {wide_msg:.dim}";
const WHOLE: &str = "    {wide_msg:.dim}";

pub struct Progress {
    output: Output,
    bars: MultiProgress,
    running: BTreeMap<StepId, ProgressBar>,
    whole: Option<ProgressBar>,
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
            done: 0,
        }
    }

    /// Takes an entry in. `line` is what it comes to in a pipe; on a terminal a step that begins is drawn, and
    /// becomes a line when it ends.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn entry(&mut self, plan: &Plan, entry: &Entry, line: &str) -> Result<()> {
        match &entry.event {
            Event::Begun { step, direction } if self.output.is_live() => {
                self.begin(plan, *step, *direction);
                return Ok(());
            }
            Event::Done { step, .. } | Event::Failed { step, .. } => {
                self.done += 1;
                if let Some(bar) = self.running.remove(step) {
                    bar.finish_and_clear();
                }
            }
            Event::Ended { .. } | Event::Stuck { .. } => self.clear(),
            Event::Turned { .. } => self.done = 0,
            Event::Taken { .. } | Event::Begun { .. } | Event::Resumed { .. } => {}
        }
        self.tell_whole(plan);
        // A line that is written past the bars would be drawn over.
        self.bars.suspend(|| self.output.line(line))
    }

    /// The last line of what a step runs.
    pub fn tail(&self, step: StepId, line: &str) {
        if let Some(bar) = self.running.get(&step) {
            bar.set_message(line.replace(|c: char| c.is_control(), " "));
        }
    }

    /// Nothing is drawn any more.
    pub fn clear(&mut self) {
        for bar in std::mem::take(&mut self.running).into_values().chain(self.whole.take()) {
            bar.finish_and_clear();
        }
    }

    fn begin(&mut self, plan: &Plan, id: StepId, direction: Direction) {
        let Some(step) = plan.step(id) else { return };
        let undo = match direction {
            Direction::Do => "",
            Direction::Undo => "undo ",
        };
        let usual = step.usual.map(|usual| format!("of about {usual}")).unwrap_or_default();
        let bar = ProgressBar::new_spinner().with_style(style(STEP));
        let bar = match &self.whole {
            Some(whole) => self.bars.insert_before(whole, bar),
            None => self.bars.add(bar),
        };
        bar.set_prefix(format!("{id:4} {undo}{:10} {}", step.action.name(), step.host_name));
        bar.set_message(usual);
        bar.enable_steady_tick(TICK);
        self.running.insert(id, bar);
        self.tell_whole(plan);
    }

    fn tell_whole(&mut self, plan: &Plan) {
        if !self.output.is_live() || self.running.is_empty() {
            return;
        }
        let bars = &self.bars;
        let whole =
            self.whole.get_or_insert_with(|| bars.add(ProgressBar::new_spinner().with_style(style(WHOLE))));
        whole.set_message(format!(
            "{} of {} steps · {} · Ctrl-C leaves it running",
            self.done,
            plan.steps().count(),
            plan.release.image
        ));
        whole.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a constant that is a template").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}
