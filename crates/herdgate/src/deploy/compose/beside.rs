//! What `.env` beside a stack does to it: compose fills in variables from there, whoever wrote them for whatever else.

use super::{FILE, LEAD};
use crate::deploy::Deployment;
use std::collections::BTreeSet;

/// What programs take for Ollama's address, and no stack of ours does.
const OTHERS: [&str; 3] = ["OLLAMA_URL", "OLLAMA_BASE_URL", "OLLAMA_HOST"];

/// What somebody should know of that file. Names alone: there are secrets in it.
pub(crate) fn notes(stack: &Deployment, env: &str) -> Vec<String> {
    let text = stack.files.iter().find(|file| file.path.ends_with(FILE)).map_or("", |file| &file.text);
    let (read, said) = (read(text), said(env));
    let list = |names: &[&str]| names.join(", ");
    let heard: Vec<&str> = said.intersection(&read).copied().collect();
    let unheard: Vec<&str> =
        OTHERS.into_iter().filter(|name| said.contains(name) && !read.contains(name)).collect();
    let mut notes = Vec::new();
    if !heard.is_empty() {
        notes.push(format!(".env of this folder says {}: the stack goes by that", list(&heard)));
    }
    if !unheard.is_empty() && read.contains(LEAD) {
        notes.push(format!(
            ".env of this folder says {}, which this stack does not go by; {LEAD} there would lead it elsewhere",
            list(&unheard)
        ));
    }
    notes
}

/// The variables that a stack takes from outside: filled in within a text, or passed on as they are.
fn read(stack: &str) -> BTreeSet<&str> {
    let is_sign = |sign: char| sign.is_ascii_uppercase() || sign.is_ascii_digit() || sign == '_';
    let lines = stack.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut names = BTreeSet::new();
    for line in lines {
        names.extend(line.split("${").skip(1).filter_map(|rest| rest.split(|sign| !is_sign(sign)).next()));
        names.extend(line.strip_prefix("- ").filter(|word| word.chars().all(is_sign)));
    }
    names
}

fn said(env: &str) -> BTreeSet<&str> {
    let lines = env.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.trim_start_matches("export ").split_once('='))
        .map(|(name, _)| name.trim())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::make;
    use super::*;
    use crate::deploy::testing::make_of;

    const ENV: &str = "# OLLAMA_MODEL=a\nOLLAMA_URL=http://cuda.local:11434\nexport STACK_OLLAMA_URL=http://geheim\n\
                       AUTH_TOKEN=geheim\nOTHER=1\n";

    #[test]
    fn what_changes_the_stack_is_said_and_what_does_not_as_well() {
        let told = |words: &[&str], env: &str| {
            notes(&make_of(super::super::KIND, None, &[], words, make).unwrap(), env).join("\n")
        };
        let consumer = told(&["--consumer", "--open-webui"], ENV);
        assert!(consumer.contains(" says STACK_OLLAMA_URL: the stack goes by that\n"), "{consumer}");
        assert!(consumer.contains(" says OLLAMA_URL, which this stack does not go by; "), "{consumer}");
        let all_in_one = told(&["--all-in-one"], ENV);
        assert_eq!(all_in_one, ".env of this folder says AUTH_TOKEN: the stack goes by that");
        assert!(told(&["--consumer"], "GATE_URL = x\n").contains("GATE_URL"));
        for env in ["", "OTHER=1\n", "# GATE_URL=x\n"] {
            assert_eq!(told(&["--consumer", "--n8n"], env), "", "{env}");
        }
        assert!(!format!("{consumer}{all_in_one}").contains("geheim"));
    }
}
