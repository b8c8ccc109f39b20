//! The first lines of a text: what it is, made by what, where it goes, what is to be known of it.

use super::{Filled, NO_MODEL};

/// Columns of a comment.
pub(super) const WIDTH: usize = 110;

impl Filled<'_> {
    /// The first lines of a text whose comments begin with `mark`: what it is, made by what, where it goes, then these and what is
    /// to be known of address and times.
    pub(super) fn head(&self, mark: &str, what: &str, lines: &[&str]) -> String {
        let made = format!("Made by `{}`; belongs at {}.", self.command, self.client.row().path);
        let model = self
            .model
            .is_none()
            .then(|| format!("{NO_MODEL} stands for a model: `herdgate models` lists them."));
        let all = [what.to_owned(), made].into_iter().chain(lines.iter().map(|line| (*line).to_owned()));
        let all = all.chain(self.address.why.iter().cloned()).chain(model).chain([self.wait.why.clone()]);
        all.flat_map(|line| wrapped(&line)).fold(String::new(), |text, line| format!("{text}{mark} {line}\n"))
    }
}

/// Lines that fit a screen. What stands between backticks is somebody's to copy, and stays whole.
pub(super) fn wrapped(line: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces(line) {
        match lines.last_mut() {
            Some(last) if last.chars().count() + piece.chars().count() < WIDTH => {
                last.push(' ');
                last.push_str(&piece);
            }
            _ => lines.push(piece),
        }
    }
    lines
}

/// The words of a line; all of those between backticks are one.
fn pieces(line: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut is_inside = false;
    for word in line.split(' ') {
        match pieces.last_mut() {
            Some(last) if is_inside => {
                last.push(' ');
                last.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
        is_inside ^= word.matches('`').count() % 2 == 1;
    }
    pieces
}
