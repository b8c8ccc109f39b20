//! The guides of `docs/`, followed from top to bottom as a reader would, each in a fresh directory of a machine of its own
//! (`guides/room.rs`): every command runs, every file is written, every answer shown is the one that comes.
//!
//! What a guide is made of, which a reader does not see:
//!
//! - A fenced block `sh` is commands. All blocks run in one bash, one after the other, each as a whole under `set -eo pipefail`;
//!   variables and folders stay. In a `console` block the lines with `$ ` are the commands (and what follows a `\`).
//! - A line that is nothing but a name in code and a colon, such as `` `compose.yaml`: ``, makes the block below it that file, whatever
//!   its language. `~/` is the reader's home; folders are made.
//! - A block `text` or `json` behind commands, and the lines of a `console` block without `$`, is what they print, on either
//!   stream. `…` stands for anything there, more lines too. Something that was started with `&` may take its time to say it.
//! - A comment `<!-- on another machine -->` right above a fence has another machine of the network run it, in the same folder and with the
//!   same variables.
//! - What this machine cannot do has a comment right above its fence, and what it says is done instead:
//!
//!   ```text
//!   <!-- needs docker; instead:
//!   herdgate serve &
//!   until_answers http://127.0.0.1:7860/healthz
//!   -->
//!   ```
//!
//!   What may be needed (several with commas between): systemd, docker, a GPU, the internet. The block itself is then only read: by bash,
//!   every `herdgate` in it must know its words, and the image of a `docker run` its ports, volumes and variables. What is shown
//!   below it is compared with what came instead.
//!
//! Nothing else is left out: a block of another language that is no file fails, and so does an empty comment. Commands that
//! are there for the comments alone:
//!
//! - `until_answers URL` waits until something answers there;
//! - `compose_config FILE` reads a stack as `docker compose config` would;
//! - `yaml_reads FILE…` reads files of YAML;
//! - `verify_unit FILE` reads a unit as systemd would;
//! - `on_another_machine COMMAND…` runs it at 192.168.1.50, in the network of the guide's machine, which is 192.168.1.100 there;
//! - `in_a_container COMMAND…` runs it at 172.17.0.2, behind the guide's machine, which is `host.docker.internal` there.
//!
//! `sudo` runs its words, `scp` fetches from the guide's home, `pip install` and `npm install` find the versions of `tools/clients`
//! installed, `ollama` is the test kit (`serve`, `pull`, `list`, `ps`, `rm`, `--version`), `herdgate` the built one. There is no Docker,
//! no service manager and no way out. `/etc` and `/var` are copies, the home, `/run` and `/usr/local/bin` are new. What was started ends with
//! the guide. Ports are free, whatever else runs.

mod follow;
mod room;
mod text;

use crate::harness::peer::workspace;
use crate::instead_of::anchor;
use std::collections::BTreeSet;

/// A test for each guide, and the list of them.
macro_rules! guides {
    ($($test:ident: $name:literal,)*) => {
        const GUIDES: &[&str] = &[$($name),*];
        $(#[test] fn $test() { follow::guide($name); })*
    };
}

guides! {
    ollama_api_key_docker: "ollama-api-key-docker.md",
    ollama_across_compose_stacks_coolify: "ollama-across-compose-stacks-coolify.md",
    ollama_on_the_network_with_tls: "ollama-on-the-network-with-tls.md",
    one_ollama_gpu_server_for_many_apps: "one-ollama-gpu-server-for-many-apps.md",
}

/// What is looked up and not followed.
const REFERENCE: [&str; 8] = [
    "deploy.md",
    "errors.md",
    "instead-of.md",
    "metrics.md",
    "performance.md",
    "records.md",
    "settings.md",
    "threat-model.md",
];

#[test]
fn every_guide_is_followed() {
    let names = std::fs::read_dir(workspace().join("docs")).unwrap().flatten();
    let mut there: BTreeSet<String> = names
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| std::path::Path::new(name).extension().is_some_and(|ending| ending == "md"))
        .collect();
    for name in REFERENCE {
        there.remove(name);
    }
    let followed: BTreeSet<String> = GUIDES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(there, followed, "docs/, and the guides with a test");
}

#[test]
fn links_of_guides_lead_somewhere() {
    let docs = workspace().join("docs");
    let pages = GUIDES.iter().map(|name| docs.join(name)).chain([workspace().join("README.md")]);
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (name, place) = link.split_once('#').unwrap_or((link, ""));
            let to = if name.is_empty() { page.clone() } else { page.with_file_name(name) };
            let there = std::fs::read_to_string(&to).unwrap_or_else(|error| panic!("{link}: {error}"));
            let titles = there.lines().filter(|line| line.starts_with('#'));
            let mut anchors = titles.map(|line| anchor(line.trim_start_matches('#').trim()));
            let is_there = place.is_empty() || anchors.any(|title| title == place);
            assert!(is_there, "{}: {link} leads nowhere", page.display());
        }
    }
}
