//! Rules for every combination of ports and networks, read by their own tools. That they do what they say is shown outside, in network
//! namespaces (`tests/it/deploy_firewall.rs`).

use super::make;
use crate::deploy::testing::{self, all, likes, text};
use crate::deploy::{Deployment, Way};
use std::fs;
use std::path::Path;

fn made(settings: &str, words: &[&str]) -> Deployment {
    testing::make(super::KIND, settings, words, make).unwrap()
}

/// Settings, networks and tools that differ in one thing each.
fn combinations(tool: &'static str) -> Vec<(String, Vec<&'static str>)> {
    let settings = all(&[
        &[
            "",
            "[listen]\naddress = \":11434\"\n",
            "[listen]\naddress = \"127.0.0.1:7860\"\n",
            "[[listen]]\naddress = \"10.0.0.1:443\"\n[[listen]]\naddress = \"[fd00::1]:80\"\n",
        ],
        &["[[upstream]]\nurl = \"http://localhost:8080\"\n", "[[upstream]]\nurl = \"http://gpu1:11434\"\n"],
    ]);
    let options = all(&[
        &[
            "--allow=10.0.0.0/8",
            "--allow=fd00::/8",
            "--allow=10.0.0.0/8,10.1.0.0/16,192.168.1.7,fd00::/8,::1",
            "--allow=0.0.0.0/0,::/0",
        ],
        &["", "--allow-ollama=172.18.0.0/16,fd01::1"],
        &[tool],
    ]);
    let mut made = Vec::new();
    for settings in &settings {
        for options in &options {
            made.push((settings.concat(), options.iter().copied().filter(|word| !word.is_empty()).collect()));
        }
    }
    made
}

/// Writes all texts to files, each once, and gives their paths.
fn spread(dir: &Path, texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: Vec<String> = texts.collect();
    seen.sort_unstable();
    seen.dedup();
    let path = |number: usize| dir.join(format!("{number}")).display().to_string();
    seen.iter().enumerate().for_each(|(number, text)| fs::write(path(number), text).unwrap());
    (0..seen.len()).map(path).collect()
}

/// One shell for all calls of a tool that reads one file at a time.
fn each(dir: &Path, files: &[String], call: &str) {
    let script: String =
        files.iter().map(|file| format!("{} || exit 1\n", call.replace('@', file))).collect();
    let path = dir.join("each.sh");
    fs::write(&path, script).unwrap();
    // A network of its own: what is only checked looks at the rules that are there.
    likes("unshare", &["--net", "sh", path.to_str().unwrap()]);
}

#[test]
fn nftables_reads_all_tables() {
    let dir = tempfile::tempdir().unwrap();
    let texts = ["--nftables", ""].into_iter().flat_map(combinations).map(|(settings, words)| {
        let made = made(&settings, &words);
        let main = made.files.iter().find(|file| file.path.ends_with("nftables.conf")).unwrap();
        assert_eq!(
            (main.way, main.text.as_str()),
            (Way::Block, "include \"/etc/nftables.d/herdgate.nft\"\n")
        );
        text(&made, "herdgate.nft").to_owned()
    });
    let files = spread(dir.path(), texts);
    if testing::tool("nft", &["--version"]).is_some() {
        each(dir.path(), &files, "nft -c -f @");
    }
}

#[test]
fn iptables_reads_all_rules_and_a_shell_all_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let tools = ["--iptables", "--ufw", "--firewalld"];
    let scripts: Vec<String> = tools
        .into_iter()
        .flat_map(combinations)
        .map(|(settings, words)| text(&made(&settings, &words), "herdgate-firewall").to_owned())
        .collect();
    let rules = |family: &str| {
        let begin = format!("rules_{family}() {{\n    cat <<'END'\n");
        scripts
            .iter()
            .map(move |script| script.split(&begin).nth(1).unwrap().split("END\n").next().unwrap().to_owned())
    };
    for (place, family) in ["iptables", "ip6tables"].into_iter().enumerate() {
        let own = dir.path().join(place.to_string());
        fs::create_dir(&own).unwrap();
        let files = spread(&own, rules(family).collect::<Vec<_>>().into_iter());
        if testing::tool(&format!("{family}-restore"), &["--version"]).is_some() {
            each(&own, &files, &format!("{family}-restore --test @"));
        }
    }
    let own = dir.path().join("scripts");
    fs::create_dir(&own).unwrap();
    let files = spread(&own, scripts.iter().cloned());
    each(&own, &files, "sh -n @");
    let words: Vec<&str> = ["-s", "sh"].into_iter().chain(files.iter().map(String::as_str)).collect();
    likes("shellcheck", &words);
}

#[test]
fn firewalld_reads_all_policies() {
    let dir = tempfile::tempdir().unwrap();
    let texts = combinations("--firewalld")
        .into_iter()
        .map(|(settings, words)| text(&made(&settings, &words), "herdgate.xml").to_owned());
    let files = spread(dir.path(), texts);
    let policies = dir.path().join("firewalld/policies");
    fs::create_dir_all(&policies).unwrap();
    for (number, file) in files.iter().enumerate() {
        fs::copy(file, policies.join(format!("p{number}.xml"))).unwrap();
    }
    let system = dir.path().join("firewalld");
    likes("firewall-offline-cmd", &["--system-config", system.to_str().unwrap(), "--check-config"]);
}

#[test]
fn ufw_takes_all_commands() {
    let mut lines: Vec<String> = combinations("--ufw")
        .into_iter()
        .flat_map(|(settings, words)| {
            let made = made(&settings, &words);
            made.then.into_iter().chain(made.after_undo).collect::<Vec<_>>()
        })
        .filter(|act| act.0[0] == "ufw" && act.0[1] != "status")
        .map(|act| act.to_string().replacen("ufw", "ufw --dry-run", 1))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    assert!(lines.len() > 30, "{}", lines.len());
    if testing::tool("ufw", &["version"]).is_none() {
        return;
    }
    // ufw takes a third of a second for each: one of each form.
    let form = |line: &String| -> String {
        let kind =
            line.split(' ').map(|word| if word.contains(':') && word.contains("::") { "v6" } else { word });
        kind.filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit())).collect()
    };
    lines.dedup_by_key(|line| form(line));
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("all.sh");
    fs::write(
        &script,
        lines
            .iter()
            .map(|line| format!("{line} >/dev/null || {{ echo '{line}'; exit 1; }}\n"))
            .collect::<String>(),
    )
    .unwrap();
    likes("unshare", &["--net", "sh", script.to_str().unwrap()]);
}

#[test]
fn the_last_rule_of_ufw_to_be_put_first_is_the_one_that_lets_in() {
    let made = made("", &["--ufw", "--allow=10.0.0.0/8,fd00::/8"]);
    let lines: Vec<String> =
        made.then.iter().map(ToString::to_string).filter(|line| line.starts_with("ufw prepend")).collect();
    assert_eq!(
        lines,
        [
            "ufw prepend deny proto tcp from any to any port 7860 comment herdgate",
            "ufw prepend allow proto tcp from 10.0.0.0/8 to any port 7860 comment herdgate",
            "ufw prepend allow proto tcp from fd00::/8 to any port 7860 comment herdgate",
            "ufw prepend deny proto tcp from any to any port 11434 comment herdgate",
        ]
    );
    let back: Vec<String> = made.after_undo.iter().map(ToString::to_string).collect();
    assert!(
        back.contains(&"ufw delete allow proto tcp from 10.0.0.0/8 to any port 7860".to_owned()),
        "{back:?}"
    );
}

#[test]
fn only_the_gates_ports_and_ollamas_are_meant() {
    let ports = |settings: &str| -> Vec<(u16, usize)> {
        let made = made(settings, &["--allow=10.0.0.0/8"]);
        let table = text(&made, "herdgate.nft").to_owned();
        let chains = table.split("\tchain port-").skip(1);
        chains
            .map(|chain| {
                (chain.split(' ').next().unwrap().parse().unwrap(), chain.matches(" accept").count())
            })
            .collect()
    };
    assert_eq!(ports(""), [(7860, 1), (11434, 0)]);
    assert_eq!(
        ports("upstreams = [\"http://gpu1:11434\"]\n[listen]\naddress = \":11434\"\n"),
        [(11434, 1)],
        "the gate in Ollama's place"
    );
    assert_eq!(ports("[listen]\naddress = \"127.0.0.1:7860\"\n"), [(11434, 0)]);
    assert_eq!(ports("upstreams = [\"http://127.0.0.1:8080\"]\n"), [(7860, 1), (8080, 0), (11434, 0)]);
    let acme = made("[listen]\naddress = \":443\"\n[tls]\ndomain = \"a.example\"\n", &["--allow=10.0.0.0/8"]);
    assert!(acme.notes.iter().any(|note| note.contains("the authority connects")), "{:?}", acme.notes);
}

#[test]
fn every_way_is_in_force_again_after_a_restart() {
    for (tool, act, file) in [
        ("--nftables", "systemctl enable nftables.service", "etc/nftables.conf"),
        ("--iptables", "systemctl enable herdgate-firewall.service", "herdgate-firewall.service"),
        // What follows here is kept by these two; the rules for published ports are set by the service at each boot.
        (
            "--ufw",
            "ufw prepend allow proto tcp from 10.0.0.0/8 to any port 7860",
            "herdgate-firewall.service",
        ),
        ("--firewalld", "firewall-cmd --reload", "etc/firewalld/policies/herdgate.xml"),
    ] {
        let made = made("", &[tool, "--allow=10.0.0.0/8"]);
        let then: Vec<String> = made.then.iter().map(ToString::to_string).collect();
        assert!(then.iter().any(|one| one.starts_with(act)), "{tool}: no {act} in {then:?}");
        text(&made, file);
        if tool != "--nftables" {
            let unit = text(&made, "herdgate-firewall.service");
            assert!(unit.contains("/herdgate-firewall start\n") && unit.contains("\nWantedBy="), "{unit}");
            let enable = "systemctl enable herdgate-firewall.service";
            assert!(then.iter().any(|one| one == enable), "{tool}: {then:?}");
        }
    }
}
