//! A guide as steps. Whatever is in doubt is an error: nothing may be left out by mistake.

/// What a machine of the tests does not have.
const NEEDS: [&str; 4] = ["systemd", "docker", "a GPU", "the internet"];
/// Marks commands for another machine, which the tests have.
const ELSEWHERE: &str = "<!-- on another machine -->";
/// Stands for anything in what a guide shows.
const ANYTHING: char = '…';

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A file to be written; `line` is the first of its text.
    File { line: usize, path: String, text: String },
    /// Commands to be run.
    Run(Run),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Run {
    /// Where they begin in the guide, from 1.
    pub(super) line: usize,
    pub(super) commands: String,
    /// What this machine cannot do: read, not run; then `commands` came from the comment above it.
    pub(super) not_here: Option<String>,
    /// Whether another machine of the network runs it.
    pub(super) is_elsewhere: bool,
    /// What must be printed, and where the guide says so.
    pub(super) shown: Option<(usize, String)>,
}

impl Run {
    /// Whether something goes on behind it. (`&&` and `2>&1` begin nothing.)
    pub(super) fn begins_something(&self) -> bool {
        let is_begin = |line: &str| line.ends_with('&') && !line.ends_with("&&");
        self.commands.lines().any(|line| is_begin(line.split(" #").next().unwrap_or_default().trim_end()))
    }
}

/// A comment that marks the block below it.
struct Mark {
    line: usize,
    what: What,
}

enum What {
    Instead(String),
    Elsewhere,
}

struct Block<'t> {
    line: usize,
    language: &'t str,
    text: String,
}

/// Reads a guide. An error begins with the number of its line.
pub(super) fn steps(text: &str) -> Result<Vec<Step>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut steps = Vec::new();
    let (mut mark, mut name): (Option<Mark>, Option<&str>) = (None, None);
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let bare = line.trim();
        if bare.starts_with("```") {
            let (block, next) = block(&lines, at)?;
            take(&mut steps, block, mark.take(), name.take())?;
            at = next;
            continue;
        }
        if let Some(mark) = mark.take() {
            return Err(format!("{}: the comment is not right above a block", mark.line));
        }
        if bare.starts_with("<!--") {
            let (found, next) = comment(&lines, at)?;
            let is_above = lines.get(next).is_some_and(|below| below.trim().starts_with("```"));
            if is_above && found.is_none() {
                return Err(format!("{}: a comment above a block says what it needs", at + 1));
            }
            mark = found;
            at = next;
            continue;
        }
        if !bare.is_empty() {
            name = bare.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
            name = name.filter(|name| !name.contains([' ', '`']));
        }
        at += 1;
    }
    match mark {
        Some(mark) => Err(format!("{}: the comment is above nothing", mark.line)),
        None => Ok(steps),
    }
}

/// The block that begins at this line, and the line behind it.
fn block<'t>(lines: &[&'t str], at: usize) -> Result<(Block<'t>, usize), String> {
    let fence = lines[at];
    let indent = fence.len() - fence.trim_start().len();
    let language = fence.trim().trim_start_matches('`');
    let mut text = String::new();
    for (past, line) in lines[at + 1..].iter().enumerate() {
        if line.trim() == "```" {
            return Ok((Block { line: at + 2, language, text }, at + past + 2));
        }
        let (before, rest) = line.split_at_checked(indent).unwrap_or((line, ""));
        text += if before.trim().is_empty() { rest } else { line };
        text.push('\n');
    }
    Err(format!("{}: the block has no end", at + 1))
}

/// The comment that begins at this line, if it is about the block below it, and the line behind it.
fn comment(lines: &[&str], at: usize) -> Result<(Option<Mark>, usize), String> {
    let here = at + 1;
    if lines[at].trim() == ELSEWHERE {
        return Ok((Some(Mark { line: here, what: What::Elsewhere }), here));
    }
    let end = lines[at..].iter().position(|line| line.contains("-->"));
    let end = at + end.ok_or_else(|| format!("{here}: the comment has no end"))?;
    let Some(needs) = lines[at].trim().strip_prefix("<!-- needs ") else { return Ok((None, end + 1)) };
    let needs =
        needs.strip_suffix("; instead:").ok_or_else(|| format!("{here}: it ends in \"; instead:\""))?;
    if let Some(other) = needs.split(", ").find(|need| !NEEDS.contains(need)) {
        return Err(format!("{here}: {other:?} is none of {}", NEEDS.join(", ")));
    }
    let commands: String = lines[at + 1..end].iter().map(|line| format!("{}\n", line.trim_end())).collect();
    let is_command = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
    if let Some(line) = commands.lines().find(|line| line.trim_start().starts_with("! ")) {
        return Err(format!("{here}: bash does not fail for {line:?}; if COMMAND; then exit 1; fi does"));
    }
    if !commands.lines().any(is_command) || lines[end].trim() != "-->" {
        return Err(format!("{here}: no commands instead"));
    }
    Ok((Some(Mark { line: here, what: What::Instead(commands) }), end + 1))
}

/// Adds what a block asks for.
fn take(
    steps: &mut Vec<Step>,
    block: Block<'_>,
    mark: Option<Mark>,
    name: Option<&str>,
) -> Result<(), String> {
    let here = block.line - 1;
    let runs = matches!(block.language, "sh" | "console");
    if mark.is_some() && (!runs || name.is_some()) {
        return Err(format!("{here}: only commands can need something"));
    }
    match (name, block.language) {
        (Some(path), _) => {
            steps.push(Step::File { line: block.line, path: path.to_owned(), text: block.text })
        }
        (None, "sh") => steps.push(Step::Run(marked(block.line, block.text, None, mark))),
        (None, "console") => console(steps, &block, mark)?,
        (None, "text" | "json") => match steps.last_mut() {
            Some(Step::Run(run)) if run.shown.is_none() => run.shown = Some((block.line, block.text)),
            _ => return Err(format!("{here}: nothing is run before what is shown")),
        },
        (None, other) => {
            return Err(format!("{here}: neither commands, nor their output, nor a file: {other:?}"));
        }
    }
    Ok(())
}

fn marked(line: usize, commands: String, shown: Option<(usize, String)>, mark: Option<Mark>) -> Run {
    let run = Run { line, commands, shown, ..Run::default() };
    match mark {
        Some(Mark { line, what: What::Instead(instead) }) => {
            Run { line: line + 1, commands: instead, not_here: Some(run.commands), ..run }
        }
        Some(Mark { what: What::Elsewhere, .. }) => Run { is_elsewhere: true, ..run },
        None => run,
    }
}

/// Each command with what is shown below it; a marked block is one.
fn console(steps: &mut Vec<Step>, block: &Block<'_>, mut mark: Option<Mark>) -> Result<(), String> {
    let mut runs: Vec<Run> = Vec::new();
    let mut goes_on = false;
    for (line, text) in (block.line..).zip(block.text.lines()) {
        let begins = text.strip_prefix("$ ");
        match (runs.last_mut(), begins) {
            (Some(run), _) if goes_on => run.commands += &format!("{}\n", begins.unwrap_or(text)),
            (Some(run), Some(command)) if mark.is_some() => run.commands += &format!("{command}\n"),
            (_, Some(command)) => {
                runs.push(Run { line, commands: format!("{command}\n"), ..Run::default() });
            }
            (Some(run), None) => run.shown.get_or_insert((line, String::new())).1 += &format!("{text}\n"),
            (None, None) => return Err(format!("{line}: a command begins with \"$ \"")),
        }
        goes_on = (goes_on || begins.is_some()) && text.ends_with('\\');
    }
    for run in runs {
        steps.push(Step::Run(marked(run.line, run.commands, run.shown, mark.take())));
    }
    Ok(())
}

/// Whether this was shown. Spaces at the ends of lines and empty lines at both ends do not count.
pub(super) fn is_as_shown(printed: &str, shown: &str) -> bool {
    let trimmed = |text: &str| {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_matches('\n').to_owned()
    };
    let (printed, shown) = (trimmed(printed), trimmed(shown));
    let mut pieces = shown.split(ANYTHING);
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, behind)) = rest.split_once(piece) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{Run, Step, is_as_shown, steps};

    fn run(line: usize, commands: &str) -> Run {
        Run { line, commands: commands.to_owned(), ..Run::default() }
    }

    #[test]
    fn commands_files_and_what_is_shown() {
        let text = "# Title\n\n```sh\none\n```\n\nprints\n\n```text\n1 …\n```\n\n`a/b.toml`:\n\n```toml\nx = 1\n```\n\
                    \n```console\n$ two \\\n    three\n$ four\n4\n```\n1. in a list\n   ```sh\n   five\n   ```\n";
        let mut one = run(4, "one\n");
        one.shown = Some((10, "1 …\n".to_owned()));
        let mut four = run(22, "four\n");
        four.shown = Some((23, "4\n".to_owned()));
        let file = Step::File { line: 16, path: "a/b.toml".to_owned(), text: "x = 1\n".to_owned() };
        let two = run(20, "two \\\n    three\n");
        let all = [Step::Run(one), file, Step::Run(two), Step::Run(four), Step::Run(run(27, "five\n"))];
        assert_eq!(steps(text).unwrap(), all);
    }

    #[test]
    fn what_is_not_here_is_done_otherwise() {
        for (block, shown) in [
            ("```sh\ndocker run x\n```", None),
            ("```console\n$ docker run x\nout\n```", Some((7, "out\n".to_owned()))),
        ] {
            let text = format!("<!-- a word -->\n\n<!-- needs docker, a GPU; instead:\ntrue\n-->\n{block}\n");
            let not_here = Some("docker run x\n".to_owned());
            let commands = "true\n".to_owned();
            let shown = shown.map(|(line, text)| (line + 1, text));
            let expected = Run { commands, not_here, shown, ..run(4, "") };
            assert_eq!(steps(&text).unwrap(), [Step::Run(expected)]);
        }
    }

    #[test]
    fn another_machine_runs_what_is_shown() {
        let text = "<!-- on another machine -->\n```sh\none\n```\n```sh\ntwo\n```\n";
        let one = Run { is_elsewhere: true, ..run(3, "one\n") };
        assert_eq!(steps(text).unwrap(), [Step::Run(one), Step::Run(run(6, "two\n"))]);
    }

    #[test]
    fn only_what_goes_on_is_waited_for() {
        for (commands, begins) in [
            ("one &\n", true),
            ("one > log 2>&1 &   # goes on\ntwo\n", true),
            ("one && two\n", false),
            ("one &&\n  two\n", false),
            ("one 2>&1\n", false),
            ("curl 'http://a/?b=1&c=2'\n", false),
        ] {
            assert_eq!(run(1, commands).begins_something(), begins, "{commands}");
        }
    }

    #[test]
    fn nothing_is_left_out_by_mistake() {
        for (text, why) in [
            ("```sh\ntrue\n", "1: the block has no end"),
            ("```python\nx\n```\n", "1: neither"),
            ("```\nx\n```\n", "1: neither"),
            ("`a.py`:\n\nThen this:\n\n```python\nx\n```\n", "5: neither"),
            ("`a b`:\n```yaml\nx\n```\n", "2: neither"),
            ("```text\nx\n```\n", "1: nothing is run"),
            ("```sh\ntrue\n```\n```text\nx\n```\n```text\nx\n```\n", "7: nothing is run"),
            ("```console\nx\n```\n", "2: a command begins"),
            ("<!-- needs docker; instead:\n-->\n```sh\ntrue\n```\n", "1: no commands"),
            ("<!-- needs docker; instead:\n# words\n-->\n```sh\ntrue\n```\n", "1: no commands"),
            ("<!-- needs docker; instead: true -->\n```sh\ntrue\n```\n", "1: it ends in"),
            ("<!-- needs time; instead:\ntrue\n-->\n```sh\ntrue\n```\n", "1: \"time\" is none of systemd"),
            ("<!-- on another machine -->\n\n```sh\ntrue\n```\n", "1: the comment is not right above"),
            ("<!-- on another machine -->\n```toml\nx\n```\n", "2: only commands"),
            (
                "<!-- needs docker; instead:\ntrue\n-->\n\n```sh\ntrue\n```\n",
                "1: the comment is not right above",
            ),
            ("<!-- needs docker; instead:\ntrue\n-->\n", "1: the comment is above nothing"),
            ("<!-- needs docker; instead:\n! true\n-->\n```sh\ntrue\n```\n", "1: bash does not fail"),
            ("<!-- skip -->\n```sh\ntrue\n```\n", "1: a comment above a block"),
            ("<!-- needs docker; instead:\ntrue\n-->\n```toml\nx\n```\n", "4: only commands"),
        ] {
            let told = steps(text).unwrap_err();
            assert!(told.starts_with(why), "{text}: {told}");
        }
    }

    #[test]
    fn three_dots_stand_for_anything() {
        for (printed, shown, fits) in [
            ("a\n", "a\n", true),
            ("\na  \nb\n", "a\nb", true),
            ("a b c", "a … c", true),
            ("a\nb\nc\n", "a\n…\nc\n", true),
            ("{\"models\":[1]}", "{\"models\":[…]}", true),
            ("abc", "a…b", false),
            ("abab", "…ab", true),
            ("b", "a…", false),
            ("a", "a…a", false),
            ("ab", "a", false),
            ("", "…", true),
            ("", "", true),
        ] {
            assert_eq!(is_as_shown(printed, shown), fits, "{printed:?} {shown:?}");
        }
    }
}
