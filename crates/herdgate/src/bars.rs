//! Progress bars at the foot of a terminal. Whatever else is written to standard error meanwhile stands above them.
//!
//! Never: draws where standard error is no terminal.

use crate::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::OnceLock;

/// Drawn so many times a second at most.
const RATE: u8 = 5;

static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Switches bars on, for the whole process: only where standard error is a terminal that shows text to a person.
pub(crate) fn allow() {
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(RATE)));
}

/// Writes something to standard error without running into a bar.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// The bar of one pull, gone when it is dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar with this in front; none where bars are not allowed.
    pub(crate) fn begin(name: &str) -> Option<Self> {
        let bar = BARS.get()?.add(ProgressBar::new(1));
        // The template is a constant; a wrong one would only look different.
        let style = ProgressStyle::with_template("{prefix}  [{bar:30}] {msg}").ok()?;
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(name.to_owned());
        Some(Self(bar))
    }

    /// Shows how far it is.
    pub(crate) fn show(&self, progress: &Progress) {
        // A bar of nothing would look full.
        self.0.set_length(progress.total().max(1));
        self.0.set_position(progress.done());
        self.0.set_message(progress.words());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
