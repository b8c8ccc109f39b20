//! Pages in a real browser: those that the settings allow use the gate, all others get nothing of it, by whatever name they
//! come, and no model server hears of them.

use crate::connect::connect;
use crate::harness::browser::{Browser, Page};
use crate::harness::load::TOKEN;
use crate::harness::{Ask, Home, now, testkit, until};
use gate_testkit::{Fault, Ollama, Order, Release, Setup};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A page that reads a stream, and says when it has a first line and when it has all of it.
const READS: &str = "
const ask = key => ({
    method: 'POST',
    headers: {'Authorization': `Bearer ${key}`, 'Content-Type': 'application/json'},
    body: JSON.stringify({model: 'demo', prompt: 'hi', messages: [{role: 'user', content: 'hi'}]}),
});
const answer = await fetch(GATE + '/api/chat', ask(KEY));
const reader = answer.body.getReader();
const decoder = new TextDecoder();
let text = '';
for (let has_line = false;;) {
    const {done, value} = await reader.read();
    if (done) break;
    text += decoder.decode(value, {stream: true});
    if (!has_line && text.includes('\\n')) {
        has_line = true;
        await told({first: answer.status});
    }
}
await told({text});
await told(await seen(GATE + '/api/chat', ask('nobodys')));
await seen(GATE + '/api/generate', ask(KEY));
";

/// A page that tries what a page can try with each of its targets. A form needs nobody's leave to send what looks like JSON.
const TRIES: &str = r#"
const chat = JSON.stringify({model: 'demo', messages: [{role: 'user', content: 'hi'}], stream: false});
const post = fields => ({method: 'POST', body: chat, ...fields});
const form = url => new Promise(done => {
    const frame = document.createElement('iframe');
    frame.name = 'frame' + document.forms.length;
    document.body.append(frame);
    const form = document.createElement('form');
    Object.assign(form, {method: 'POST', enctype: 'text/plain', action: url, target: frame.name});
    const input = document.createElement('input');
    Object.assign(input, {type: 'hidden', name: chat.slice(0, -1) + ',"options":{"stop":["', value: '"]}}'});
    form.append(input);
    document.body.append(form);
    frame.onload = () => {
        let text = null;
        try { text = frame.contentDocument && frame.contentDocument.body.innerText; } catch (error) { }
        done(text === null ? {error: 'opaque'} : {status: 'shown', text});
    };
    form.submit();
});
for (const target of TARGETS) {
    await told([
        await seen(target + '/api/tags'),
        await seen(target + '/api/chat', post({})),
        await seen(target + '/api/chat', post({mode: 'no-cors'})),
        await seen(target + '/api/chat', post({headers: {'Content-Type': 'application/json'}})),
        await seen(target + '/api/chat', post({headers: {'Content-Type': 'application/json', ...KEY}})),
        await form(target + '/api/chat'),
    ]);
}
"#;

fn chats(ollama: &Ollama) -> usize {
    ollama.seen_on("/api/chat").len()
}

#[test]
fn a_page_of_an_allowed_origin_reads_a_stream_as_it_is_made() {
    let ollama = testkit(Setup::default());
    let goes_on = Release::default();
    ollama.order(Order::always(Fault::HoldAfter { bytes: 600, until: goes_on.clone() }).on("/api/chat"));
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/generate"));
    let page = Page::new();
    let settings = format!("[cors]\norigins = [\"{}\"]\n", page.origin());
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings(&settings);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    page.runs(&[("GATE", json!(gate.url())), ("KEY", json!(TOKEN))], READS);
    let Some(browser) = Browser::show(&home, &page.origin(), "page.test", page.address) else { return };

    // What it has so far was not held back until there was more.
    assert_eq!(browser.hears(&page), json!({"first": 200}));
    goes_on.now();
    let told = browser.hears(&page);
    let text = told["text"].as_str().unwrap_or_else(|| panic!("{told}"));
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["done"], true, "{text}");
    let seen = ollama.seen_on("/api/chat");
    assert_eq!(seen.len(), 1, "its preflight was answered by the gate");

    // A page that is allowed may read why it is refused.
    let told = browser.hears(&page);
    assert!(told["status"] == 401 && told["text"].as_str().unwrap().contains("key"), "{told}");
    assert_eq!(chats(&ollama), 1);

    // Who closes the page frees the model.
    until("the last request", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
    drop(browser);
    now(ollama.until_left("/api/generate")).unwrap();
}

#[test]
fn a_page_of_another_origin_gets_nothing_of_the_gate_nor_of_connect() {
    let (ollama, bare) = (testkit(Setup::default()), testkit(Setup::default()));
    let settings = "[cors]\norigins = [\"https://app.example\"]\n";
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings(settings);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let page = Page::new();
    // To `connect`, a page that this machine serves under one of its own names is a program of this machine.
    let origin = format!("http://page.test:{}", page.address.port());
    let targets = json!([gate.url(), format!("http://{}", here.address), bare.url()]);
    // Not even with a key that it has from somewhere.
    let key = json!({"Authorization": format!("Bearer {TOKEN}")});
    page.runs(&[("TARGETS", targets), ("KEY", key)], TRIES);
    let Some(browser) = Browser::show(&home, &origin, "page.test", page.address) else { return };
    for who in ["gate", "connect"] {
        let told = browser.hears(&page);
        for saw in told.as_array().unwrap_or_else(|| panic!("{told}")) {
            let is_blind = saw["status"].as_u64().is_none_or(|status| status == 0);
            assert!(is_blind && saw["text"].as_str().is_none_or(str::is_empty), "{who}: {told}");
        }
        assert_eq!(told.as_array().map(Vec::len), Some(6), "{told}");
    }
    // What has no gate before it hears such a page, and does what it says.
    browser.hears(&page);
    assert!(chats(&bare) >= 2, "the page tries nothing");
    assert_eq!(chats(&ollama), 0);
}

/// What a page sees, and must, whose name was made to mean this listener.
#[track_caller]
fn rebinds(home: &Home, ollama: &Ollama, who: &str, to: SocketAddr, status: u16, code: &str) {
    let page = Page::rebound(to);
    let origin = format!("http://rebind.test:{}", to.port());
    page.runs(&[("TARGETS", json!([origin])), ("KEY", json!({}))], TRIES);
    let Some(browser) = Browser::show(home, &origin, "rebind.test", page.address) else { return };
    let told = browser.hears(&page);
    let saw = told.as_array().unwrap_or_else(|| panic!("{who}: {told}"));
    for saw in saw {
        let text = saw["text"].as_str().unwrap_or_default();
        assert!(saw["status"] == status || saw["status"] == "shown", "{who}: {saw}");
        assert!(text.contains(code) && !text.contains("demo"), "{who}: {saw}");
    }
    assert_eq!(saw.len(), 6, "{who}: {told}");
    assert_eq!(chats(ollama), 0, "{who}");
}

#[test]
fn a_page_whose_name_is_made_to_mean_this_machine_gets_nothing() {
    let ollama = testkit(Setup::default());
    let settings = "[[listen]]\naddress = \"127.0.0.1:0\"\n\
                    [[listen]]\naddress = \"127.0.0.1:0\"\n\
                    insecure_anonymous = { networks = [\"127.0.0.0/8\"], as = \"stack\" }\n";
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings(settings);
    home.key("stack", &[]);
    let gate = home.serve_as_set(&["--upstream", &ollama.url()]);
    let anonymous = gate.addresses()[1];
    Ask::get("/api/tags").send(anonymous).ok();
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    rebinds(&home, &ollama, "gate", gate.address, 401, "no_credentials");
    rebinds(&home, &ollama, "anonymous", anonymous, 401, "no_credentials");
    rebinds(&home, &ollama, "connect", here.address, 403, "origin_not_allowed");

    // The same way leads to what has no gate before it.
    let page = Page::rebound(ollama.url()["http://".len()..].parse().unwrap());
    let origin = format!("http://rebind.test:{}", ollama.url().rsplit(':').next().unwrap());
    page.runs(&[("TARGETS", json!([origin])), ("KEY", json!({}))], TRIES);
    let Some(browser) = Browser::show(&home, &origin, "rebind.test", page.address) else { return };
    let told = browser.hears(&page);
    assert!(chats(&ollama) >= 2, "the page tries nothing: {told}");
}
