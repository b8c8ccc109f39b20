//! Does a model answer, how fast, and do its words come as it makes them?

use super::{drop_in, time};
use crate::doctor::facts::{Facts, Failed, Models, Place, Told};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "question";
/// Words that were made over so long a time can be seen to come together.
const SPREAD: u64 = 150_000;
/// So long a silence many a proxy does not bear (nginx's proxy_read_timeout is 60 s), and no program without a longer limit.
const LONG: u64 = 20_000_000;
/// What many a program and proxy waits for the next word: nginx's proxy_read_timeout, HAProxy's and others' defaults are no longer.
const LIMIT: u64 = 60_000_000;
/// Words of an everyday answer: a page and a half.
const ANSWER: u64 = 500;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.places.iter().filter_map(|place| Some(one(place, place.told.as_ref()?))).collect()
}

fn one(place: &Place, told: &Told) -> Finding {
    let model = &told.model;
    if let Some(error) = &told.error {
        return failed(place, told, error);
    }
    if !told.is_whole {
        return cut(place, told);
    }
    if let Some(made) = gathered(told) {
        return kept_back(place, told, made);
    }
    let first = told.came.first().copied().unwrap_or(told.micros);
    let rate = match told.eval_micros {
        0 => String::new(),
        micros => format!(", {} tokens/s", told.tokens.saturating_mul(1_000_000) / micros),
    };
    let load =
        if told.was_loaded { String::new() } else { format!(", loaded in {}", time(told.load_micros)) };
    let seen = format!("{model}: first word after {}{load}{rate}", time(first));
    if first < LONG {
        let by = proxy(place).map(|name| {
            format!(
                "; {name} between let {} of silence pass, longer ones were not seen",
                time(told.silence())
            )
        });
        return Finding::ok(CHECK, &place.url, format!("{seen}{}", by.unwrap_or_default()));
    }
    Finding::warn(CHECK, &place.url, seen)
        .because("proxies and programs with a limit of 30 or 60 s give up before a model is loaded")
        .cured(drop_in("OLLAMA_KEEP_ALIVE", "24h").on(place.host.clone()).note(
            "keeps models in memory; give programs a limit of 300 s, and nginx proxy_read_timeout 600s",
        ))
}

/// The server made its words one after the other over this time, and they came together.
fn gathered(told: &Told) -> Option<u64> {
    let made = match spread(&told.made) {
        0 => told.eval_micros * u64::from(told.made.is_empty()),
        made => made,
    };
    (told.came.len() >= 4 && made >= SPREAD && spread(&told.came) < made / 3).then_some(made)
}

/// A proxy hands the answer on when it is whole: a failure where an answer of everyday takes longer than programs wait.
fn kept_back(place: &Place, told: &Told, made: u64) -> Finding {
    let words = told.came.len() as u64;
    let whole = made.saturating_mul(ANSWER) / words.saturating_sub(1).max(1);
    let by = proxy(place).map(|name| format!(" ({name})")).unwrap_or_default();
    let seen = format!(
        "{}: its words come all at once, though it made them over {}; {ANSWER} words show nothing for {}",
        told.model,
        time(made),
        time(whole)
    );
    let why = format!("a proxy between{by} keeps the answer back until it is whole");
    let finding = if whole >= LIMIT {
        let why =
            format!("{why}: programs and proxies that wait for 60 s give up before they have seen a word");
        Finding::bad(CHECK, &place.url, seen).because(why)
    } else {
        Finding::warn(CHECK, &place.url, seen).because(format!("{why}: nobody can read along"))
    };
    finding.cured(unbuffered(place))
}

/// What says that it stands between.
fn proxy(place: &Place) -> Option<String> {
    let served = place.served.as_ref()?;
    served.server.clone().or_else(|| served.via.clone())
}

fn spread(times: &[u64]) -> u64 {
    let last = times.last().copied().unwrap_or(0);
    last.saturating_sub(times.first().copied().unwrap_or(0))
}

/// What has the proxy between pass words on at once and wait for them, in its own words.
fn unbuffered(place: &Place) -> Cure {
    let name = proxy(place).unwrap_or_default().to_ascii_lowercase();
    let nginx =
        Cure::run("proxy_buffering off;\nproxy_read_timeout 600s;").within("nginx.conf, at its location");
    let nginx = nginx.note("then: sudo nginx -s reload");
    let whole = |kind: &str| {
        Cure::run(format!("herdgate deploy {kind}")).on(place.host.clone()).note("prints the whole block")
    };
    if name.contains("cloudflare") {
        return drop_in("OLLAMA_KEEP_ALIVE", "24h").on(place.host.clone()).note(
            "Cloudflare waits 100 s for a word, and no setting of a free plan changes that: keep models in memory, and ask with \"stream\": true",
        );
    }
    if name.contains("caddy") {
        let caddy = "transport http {\n\tresponse_header_timeout 600s\n\tread_timeout 600s\n}";
        // Caddy flushes streams by itself; a flush_interval of -1 has it read on for clients that have left, and the model with it.
        return Cure::run(caddy)
            .within("the Caddyfile, in the braces of reverse_proxy")
            .note("with no buffer_responses, response_buffers or flush_interval there; then: sudo systemctl reload caddy")
            .or(whole("caddy"));
    }
    if name.contains("haproxy") {
        return Cure::run("timeout server 600s").within("haproxy.cfg, at its backend");
    }
    nginx.or(whole("nginx"))
}

/// No answer, or one that ends before its last line.
fn cut(place: &Place, told: &Told) -> Finding {
    let by = proxy(place).map(|name| format!(" ({name})")).unwrap_or_default();
    let model = &told.model;
    let (after, silence) = (time(told.micros), time(told.last_silence()));
    let (seen, why) = match (told.status, &told.failed) {
        (Some(status @ (502..=504 | 520..=527)), _) => (
            format!("{model}: a proxy{by} gives up after {after} without a word, with {status}"),
            "it waits less long than a model takes to load or to begin",
        ),
        (_, Some(Failed::Silent)) => {
            let seen = match told.came.len() {
                0 => format!("{model}: nothing was said within {after}"),
                words => format!("{model}: {words} words, and the answer does not end within {after}"),
            };
            let not_seen = if told.micros < LIMIT {
                "; whether something between gives up at 60 s cannot be seen in so short a time"
            } else {
                ""
            };
            return Finding::warn(CHECK, &place.url, seen)
                .because(format!("it is being loaded, busy with others, or far too large{not_seen}"))
                .cured(
                    Cure::run(format!("herdgate doctor {} --wait 300", place.url))
                        .note("waits until it answers, or something between gives up")
                        .or(Cure::run(format!("OLLAMA_HOST={} ollama ps", place.url))
                            .note("what it is busy with")),
                );
        }
        (Some(200), Some(_)) => (
            format!("{model}: the answer breaks off after {after}, the last {silence} of it without a word"),
            "a proxy between has a limit for silence or for whole answers, or the server ended",
        ),
        (Some(status), _) => {
            (format!("{model}: answers {status} after {after}"), "no program gets an answer")
        }
        (None, _) => (
            format!("{model}: closes the connection after {after}"),
            "a proxy between has a limit for waiting, or the server ended",
        ),
    };
    Finding::bad(CHECK, &place.url, seen).because(why).cured(unbuffered(place))
}

/// What the server says of its failure.
fn failed(place: &Place, told: &Told, error: &str) -> Finding {
    let model = &told.model;
    let finding = Finding::bad(CHECK, &place.url, format!("{model}: {error}"));
    let is_memory = ["more system memory", "out of memory", "cudaMalloc", "unable to allocate"];
    if is_memory.iter().any(|words| error.contains(words)) {
        return finding.because("the model is larger than the memory there").cured(smaller(place, model));
    }
    if matches!(told.status, Some(401 | 403)) {
        return finding
            .because("the key may not ask this model")
            .cured(Cure::run(format!("herdgate key set NAME --models {model}")).on(place.host.clone()));
    }
    finding.because("every request for it fails so").cured(
        Cure::run("journalctl -u ollama -n 50 --no-pager")
            .on(place.host.clone())
            .or(Cure::run("docker logs --tail 50 ollama").on(place.host.clone())),
    )
}

/// Sizes that the library has of families that are asked for often, smallest first.
const FAMILIES: [(&str, &[&str]); 9] = [
    ("qwen3", &["0.6b", "1.7b", "4b", "8b", "14b", "30b", "32b", "235b"]),
    ("qwen2.5", &["0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b"]),
    ("llama3.2", &["1b", "3b"]),
    ("llama3.1", &["8b", "70b", "405b"]),
    ("llama2", &["7b", "13b", "70b"]),
    ("gemma3", &["270m", "1b", "4b", "12b", "27b"]),
    ("codellama", &["7b", "13b", "34b", "70b"]),
    ("deepseek-r1", &["1.5b", "7b", "8b", "14b", "32b", "70b", "671b"]),
    ("orca-mini", &["3b", "7b", "13b", "70b"]),
];

/// The next smaller one of the same name: one that is there, or one that can be pulled.
pub(super) fn smaller(place: &Place, model: &str) -> Cure {
    let (family, tag) = model.split_once(':').unwrap_or((model, "latest"));
    let none = Models::default();
    let models = place.models.as_ref().unwrap_or(&none);
    let size = models.find(model).map_or(u64::MAX, |model| model.size);
    let sibling = |name: &str| name.split(':').next() == Some(family) && name != model;
    let there = models.listed.iter().filter(|other| sibling(&other.name) && other.size < size);
    if let Some(there) = there.max_by_key(|other| other.size) {
        return Cure::run(format!("herdgate doctor {} --model {}", place.url, there.name))
            .note(format!("{} is there, and smaller", there.name));
    }
    let sizes =
        FAMILIES.iter().find(|(name, _)| *name == family).map(|(_, sizes)| *sizes).unwrap_or_default();
    let own = sizes.iter().position(|size| tag == *size || tag.starts_with(&format!("{size}-")));
    match own.and_then(|own| sizes.get(own.checked_sub(1)?)) {
        Some(smaller) => {
            let name = format!("{family}:{smaller}");
            Cure::run(format!("OLLAMA_HOST={} ollama pull {name}", place.url))
                .then(format!("herdgate doctor {} --model {name}", place.url))
        }
        None => Cure::run(format!("OLLAMA_HOST={} ollama pull llama3.2:1b", place.url))
            .note("or another small one; a smaller context (OLLAMA_CONTEXT_LENGTH) takes less memory, too"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Model, Served};
    use crate::doctor::finding::Mark;

    fn found(told: Told, listed: &[(&str, u64)]) -> Finding {
        let model =
            |(name, size): &(&str, u64)| Model { name: (*name).to_owned(), size: *size, answers: true };
        let place = Place {
            url: "http://gpu1:11434".into(),
            host: "gpu1".into(),
            served: Some(Served { server: Some("nginx".into()), ..Served::default() }),
            models: Some(Models { listed: listed.iter().map(model).collect(), ..Models::default() }),
            told: Some(told),
            ..Place::default()
        };
        judge(&Facts { places: vec![place], ..Facts::default() }).pop().unwrap()
    }

    fn told() -> Told {
        let steps = |step: u64| (0..8).map(|place| place * step).collect();
        Told {
            model: "qwen3:8b".into(),
            status: Some(200),
            is_whole: true,
            micros: 900_000,
            came: steps(50_000),
            made: steps(50_000),
            load_micros: 2_300_000,
            tokens: 8,
            eval_micros: 400_000,
            ..Told::default()
        }
    }

    #[test]
    fn words_that_come_together_were_kept_back() {
        let fine = found(told(), &[]);
        assert_eq!(
            (fine.mark, fine.seen.as_str()),
            (
                Mark::Ok,
                "qwen3:8b: first word after under 1 ms, loaded in 2.3 s, 20 tokens/s; nginx between let 550 ms of silence pass, longer ones were not seen"
            )
        );
        let at_once = vec![900_000; 8];
        let kept = found(Told { came: at_once.clone(), ..told() }, &[]);
        assert!(
            kept.mark == Mark::Warn && kept.seen.contains("all at once, though it made them over 350 ms"),
            "{}",
            kept.seen
        );
        assert!(kept.seen.ends_with("500 words show nothing for 25.0 s"), "{}", kept.seen);
        let slowly = (0..8).map(|place| place * 130_000).collect();
        let slow = found(Told { came: at_once.clone(), made: slowly, ..told() }, &[]);
        assert!(slow.mark == Mark::Bad && slow.seen.ends_with("for 65.0 s"), "{}", slow.seen);
        let unstamped = found(Told { came: at_once.clone(), made: vec![], ..told() }, &[]);
        assert_eq!(unstamped.mark, Mark::Warn);
        let fast = found(Told { came: at_once, made: vec![0; 8], eval_micros: 20_000, ..told() }, &[]);
        assert_eq!(fast.mark, Mark::Ok);
    }

    #[test]
    fn who_gave_up_is_told_with_the_time() {
        let told = |status, failed| Told { status, failed, is_whole: false, micros: 60_100_000, ..told() };
        for (told, mark, seen) in [
            (
                told(Some(504), None),
                Mark::Bad,
                "a proxy (nginx) gives up after 60.1 s without a word, with 504",
            ),
            (told(Some(200), Some(Failed::Closed)), Mark::Bad, "breaks off after 60.1 s"),
            (told(None, Some(Failed::Closed)), Mark::Bad, "closes the connection after 60.1 s"),
            (
                told(None, Some(Failed::Silent)),
                Mark::Warn,
                "words, and the answer does not end within 60.1 s",
            ),
        ] {
            let finding = found(told, &[]);
            assert!(finding.mark == mark && finding.seen.contains(seen), "{}", finding.seen);
        }
    }

    #[test]
    fn each_proxy_is_told_in_its_own_words() {
        let cure = |server: &str, status| {
            let told = Told { status: Some(status), is_whole: false, ..told() };
            let served = Some(Served { server: Some(server.into()), ..Served::default() });
            let place = Place { told: Some(told), served, ..Place::default() };
            let found = judge(&Facts { places: vec![place], ..Facts::default() }).remove(0);
            assert!(found.mark == Mark::Bad && found.seen.contains("gives up after"), "{}", found.seen);
            found.cure.unwrap().run.join("\n")
        };
        assert!(cure("nginx/1.22.1", 504).starts_with("proxy_buffering off;"));
        let caddy = cure("Caddy", 502);
        assert!(caddy.contains("read_timeout 600s") && !caddy.contains("flush_interval"), "{caddy}");
        assert!(cure("cloudflare", 524).contains("OLLAMA_KEEP_ALIVE=24h"));
        assert_eq!(cure("HAProxy", 504), "timeout server 600s");
    }

    #[test]
    fn a_smaller_one_is_offered_where_memory_is_short() {
        let error = "model requires more system memory (8.7 GiB) than is available (5.8 GiB)";
        let short = || Told { status: Some(500), error: Some(error.into()), is_whole: false, ..told() };
        let finding = found(short(), &[("qwen3:8b", 8), ("qwen3:4b", 4), ("qwen3:1.7b", 2)]);
        assert_eq!(finding.cure.unwrap().run, ["herdgate doctor http://gpu1:11434 --model qwen3:4b"]);
        let finding = found(short(), &[("qwen3:8b", 8)]);
        assert_eq!(finding.cure.unwrap().run[0], "OLLAMA_HOST=http://gpu1:11434 ollama pull qwen3:4b");
        let finding = found(Told { model: "own".into(), ..short() }, &[("own", 8)]);
        assert!(finding.cure.unwrap().run[0].ends_with("pull llama3.2:1b"));
    }
}
