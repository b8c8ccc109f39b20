//! From a prompt or a text to tokens that fit.

use llama_cpp_2::token::LlamaToken;

use super::answer::{Prompt, most_bytes};
use super::refusal::Refusal;
use crate::llama::Loaded;
use crate::options::Options;
use crate::prompt::Message;

/// The tokens of a prompt: at least one, fewer than `window`.
///
/// A conversation that is too long loses its oldest messages, but neither those of the system nor the last one. A text
/// that is too long loses its middle: the first `num_keep` tokens and the end stay.
pub(super) fn of_prompt(
    loaded: &Loaded,
    prompt: Prompt,
    options: &Options,
    window: usize,
    cuts: bool,
) -> Result<Vec<i32>, Refusal> {
    let mut tokens = match prompt {
        Prompt::Raw(text) => of_text(loaded, &text, window, cuts)?,
        Prompt::Chat { messages, mut before } => {
            check(loaded, &before)?;
            let own = of_messages(loaded, messages, window, cuts)?;
            before.extend(own);
            before
        }
    };
    if tokens.is_empty() {
        return Err(Refusal::bad("the prompt makes no tokens"));
    }
    if tokens.len() >= window {
        if !cuts {
            return Err(too_long(tokens.len(), window));
        }
        cut_middle(&mut tokens, options, window);
    }
    Ok(tokens)
}

/// The tokens of a text to embed: at least one, at most `limit`.
pub(super) fn of_embedded(
    loaded: &Loaded,
    text: &str,
    limit: usize,
    cuts: bool,
) -> Result<Vec<i32>, Refusal> {
    let too_long = || Refusal::bad("the input length exceeds the context length");
    let most = most_bytes(limit);
    if text.len() > most && !cuts {
        return Err(too_long());
    }
    let text = text.get(..text.floor_char_boundary(most)).unwrap_or(text);
    let mut tokens = tokenize(loaded, text, true, false);
    if tokens.is_empty() || limit == 0 {
        return Err(Refusal::bad("input exceeds maximum context length and cannot be truncated further"));
    }
    if tokens.len() > limit {
        if !cuts {
            return Err(too_long());
        }
        // A closing mark stays the last token.
        let vocabulary = loaded.model.vocab();
        let closes = vocabulary.should_add_eos() || vocabulary.should_add_sep();
        let last = tokens.last().copied();
        tokens.truncate(limit);
        if let (true, Some(end), Some(last)) = (closes, tokens.last_mut(), last) {
            *end = last;
        }
    }
    Ok(tokens)
}

fn of_messages(
    loaded: &Loaded,
    mut messages: Vec<Message>,
    window: usize,
    cuts: bool,
) -> Result<Vec<i32>, Refusal> {
    loop {
        let text = loaded.template.render(&messages).map_err(Refusal::bad)?;
        let tokens = of_text(loaded, &text, window, cuts)?;
        let last = messages.len().saturating_sub(1);
        let oldest = messages.iter().take(last).position(|message| message.role != "system");
        match oldest {
            Some(oldest) if cuts && tokens.len() >= window => {
                // As many as half at a time: a long history must not be rendered once for each message.
                let spare = last - oldest;
                let system = |message: &Message| message.role == "system";
                let mut left = spare.div_ceil(2);
                let mut at = 0;
                messages.retain(|message| {
                    let goes = at < last && left > 0 && !system(message);
                    at += 1;
                    left -= usize::from(goes);
                    !goes
                });
            }
            _ => return Ok(tokens),
        }
    }
}

fn of_text(loaded: &Loaded, text: &str, window: usize, cuts: bool) -> Result<Vec<i32>, Refusal> {
    let most = most_bytes(window);
    let text = if text.len() <= most {
        text
    } else if cuts {
        text.get(text.ceil_char_boundary(text.len() - most)..).unwrap_or(text)
    } else {
        return Err(too_long(text.len() / 4, window));
    };
    let add_special = !loaded.template.begins_with_bos(text);
    Ok(tokenize(loaded, text, add_special, true))
}

fn tokenize(loaded: &Loaded, text: &str, add_special: bool, parse_special: bool) -> Vec<i32> {
    let tokens = loaded.model.vocab().tokenize(text.as_bytes(), add_special, parse_special);
    tokens.iter().map(|token| token.0).collect()
}

/// Leaves room for the answer: what it may take, but no more than half the window.
fn cut_middle(tokens: &mut Vec<i32>, options: &Options, window: usize) {
    let wanted = options.num_predict.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let room = wanted.unwrap_or(window / 4).clamp(1, (window / 2).max(1));
    let left = window.saturating_sub(room).max(1);
    let keep = usize::try_from(options.num_keep.unwrap_or(4)).unwrap_or(usize::MAX).min(left / 2);
    let end = left - keep;
    let gone = tokens.len().saturating_sub(end).max(keep);
    tokens.drain(keep..gone);
}

/// Tokens from the client must exist in the vocabulary: llama.cpp trusts them.
fn check(loaded: &Loaded, tokens: &[i32]) -> Result<(), Refusal> {
    let known = 0..loaded.model.n_vocab();
    match tokens.iter().find(|token| !known.contains(*token)) {
        Some(token) => Err(Refusal::bad(format!("context: there is no token {}", LlamaToken::new(*token).0))),
        None => Ok(()),
    }
}

fn too_long(tokens: usize, window: usize) -> Refusal {
    Refusal::bad(format!(
        "the prompt is longer than the context length currently available to the model; \
         it has about {tokens} tokens, there is room for {window}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_goes_and_room_stays() {
        let cut = |tokens: i32, num_keep, num_predict, window| {
            let mut all: Vec<i32> = (0..tokens).collect();
            cut_middle(&mut all, &Options { num_keep, num_predict, ..Options::default() }, window);
            all
        };
        assert_eq!(cut(100, Some(2), Some(4), 12), [0, 1, 94, 95, 96, 97, 98, 99]);
        assert_eq!(cut(100, None, None, 8), [0, 1, 2, 97, 98, 99]);
        assert_eq!(cut(100, Some(0), Some(1000), 8), [96, 97, 98, 99]);
        assert_eq!(cut(5, Some(-1), None, 4), [0, 3, 4]);
        assert_eq!(cut(5, None, None, 4), [0, 3, 4]);
        for window in 2..20 {
            assert!(cut(100, None, None, window).len() < window, "{window}");
        }
    }
}
