//! The rules of this machine's firewall for who connects to it: read by the tool that made them, for root alone.
//!
//! Rules become one list in which the first that speaks for a packet decides; conditions that no stranger's first packet meets
//! (loopback, connections that stand) are left out.

use super::tool;
use serde::{Deserialize, Serialize};
use std::fs;

/// Chains that jump into chains are followed so far.
const DEPTH: usize = 4;
const MOST: usize = 500;

/// Which tool made the rules.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum Maker {
    #[default]
    Ufw,
    Firewalld,
    Iptables,
    Nftables,
}

/// The rules in force.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Firewall {
    pub(in crate::doctor) maker: Maker,
    /// Whether packets that no rule speaks for are lost.
    pub(in crate::doctor) drops_rest: bool,
    pub(in crate::doctor) rules: Vec<Rule>,
    /// nftables' name of the chain: `inet filter input`.
    pub(in crate::doctor) chain: String,
}

/// A rule for new connections of strangers.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Rule {
    /// From and to; none: every port.
    pub(in crate::doctor) ports: Option<(u16, u16)>,
    /// Whom it speaks for; none: everybody.
    pub(in crate::doctor) from: Option<String>,
    pub(in crate::doctor) accepts: bool,
    /// Whether it is there again after a reboot.
    pub(in crate::doctor) is_kept: bool,
    /// As the tool shows it.
    pub(in crate::doctor) text: String,
}

/// What becomes of who connects to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) enum Verdict {
    Open,
    /// Only these.
    Some(Vec<String>),
    Closed,
}

impl Firewall {
    pub(in crate::doctor) fn is_ufw(&self) -> bool {
        self.maker == Maker::Ufw
    }

    /// The rules for one port by its number.
    pub(in crate::doctor) fn of_port(&self, port: u16) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.ports.is_some_and(|(from, to)| (from..=to).contains(&port)))
    }

    pub(in crate::doctor) fn verdict(&self, port: u16) -> Verdict {
        let mut some = Vec::new();
        let speaks = |rule: &&Rule| rule.ports.is_none_or(|(from, to)| (from..=to).contains(&port));
        for rule in self.rules.iter().filter(speaks) {
            match (&rule.from, rule.accepts) {
                (None, true) => return Verdict::Open,
                (None, false) => return if some.is_empty() { Verdict::Closed } else { Verdict::Some(some) },
                (Some(from), true) => some.push(from.clone()),
                (Some(_), false) => {}
            }
        }
        match (self.drops_rest, some.is_empty()) {
            (false, _) => Verdict::Open,
            (true, true) => Verdict::Closed,
            (true, false) => Verdict::Some(some),
        }
    }
}

/// The rules in force; none where there are none, or only root may know.
pub(super) async fn look() -> Option<Firewall> {
    if let Some(firewall) = tool::told("ufw", &["status", "verbose"]).await.and_then(|said| of_ufw(&said)) {
        return Some(firewall);
    }
    if let Some(now) = tool::told("firewall-cmd", &["--list-all"]).await {
        let kept = tool::told("firewall-cmd", &["--permanent", "--list-all"]).await.unwrap_or_default();
        return Some(of_firewalld(&now, &kept));
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let saved = read("/etc/iptables/rules.v4") + &read("/etc/sysconfig/iptables");
    let tables = tool::told("iptables-save", &[]).await.unwrap_or_default();
    if let Some(firewall) = of_iptables(&tables, &saved) {
        return Some(firewall);
    }
    let folder = fs::read_dir("/etc/nftables.d").into_iter().flatten().flatten();
    let more: String = folder.take(64).map(|file| read(&file.path().to_string_lossy())).collect();
    let saved = read("/etc/nftables.conf") + &read("/etc/sysconfig/nftables.conf") + &more;
    of_nftables(&tool::told("nft", &["list", "ruleset"]).await?, &saved)
}

/// `11434`, `8000:8010`, `8000-8010`, without what stands behind a `/`.
fn ports(text: &str) -> Option<(u16, u16)> {
    let text = text.split('/').next()?;
    match text.split_once([':', '-']) {
        Some((from, to)) => Some((from.parse().ok()?, to.parse().ok()?)),
        None => text.parse().ok().map(|port| (port, port)),
    }
}

/// `ufw status verbose`. What ufw knows is there after a reboot.
fn of_ufw(said: &str) -> Option<Firewall> {
    said.lines().any(|line| line == "Status: active").then_some(())?;
    let drops_rest =
        said.lines().any(|line| line.starts_with("Default:") && !line.contains("allow (incoming)"));
    let rule = |line: &str| {
        let action = ["ALLOW", "LIMIT", "DENY", "REJECT"]
            .into_iter()
            .find(|word| line.contains(&format!(" {word}")))?;
        let (to, from) = line.split_once(&format!(" {action}"))?;
        let (to, from) = (to.trim(), from.trim_start_matches(" IN").trim());
        if to.ends_with("(v6)") || from.starts_with("OUT") || from.starts_with("FWD") {
            return None;
        }
        let (to, on) = to.split_once(" on ").map_or((to, None), |(to, on)| (to, Some(on)));
        let port = to.split(' ').next_back().and_then(ports);
        if port.is_none() && to != "Anywhere" {
            return None;
        }
        let from = Some(from.split(" #").next().unwrap_or(from).trim()).filter(|from| *from != "Anywhere");
        let from = from.map(str::to_owned).or_else(|| on.map(|on| format!("on {on}")));
        let accepts = matches!(action, "ALLOW" | "LIMIT");
        Some(Rule { ports: port, from, accepts, is_kept: true, text: to.to_owned() })
    };
    let rules = said.lines().filter_map(rule).take(MOST).collect();
    Some(Firewall { maker: Maker::Ufw, drops_rest, rules, chain: String::new() })
}

/// `firewall-cmd --list-all`, as it is and as it will be.
fn of_firewalld(now: &str, kept: &str) -> Firewall {
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name).map(str::to_owned));
        line.unwrap_or_default()
    };
    let later = field(kept, "ports:");
    let open = field(now, "ports:");
    let mut rules: Vec<Rule> = Vec::new();
    for word in open.split_whitespace() {
        let is_kept = later.split_whitespace().any(|known| known == word);
        rules.push(Rule { ports: ports(word), from: None, accepts: true, is_kept, text: word.to_owned() });
    }
    for line in now.lines().map(str::trim).filter(|line| line.starts_with("rule ")) {
        let value =
            |name: &str| line.split(name).nth(1).and_then(|rest| rest.split('"').nth(1)).map(str::to_owned);
        let port = value("port port=").as_deref().and_then(ports);
        let from = value("source address=");
        if port.is_some() || from.is_some() {
            let (accepts, is_kept) = (line.ends_with("accept"), kept.contains(line));
            rules.push(Rule { ports: port, from, accepts, is_kept, text: line.to_owned() });
        }
    }
    let drops_rest = !field(now, "target:").contains("ACCEPT");
    Firewall { maker: Maker::Firewalld, drops_rest, rules, chain: String::new() }
}

/// `iptables-save`; none where the chain INPUT lets everything pass without a rule.
fn of_iptables(tables: &str, saved: &str) -> Option<Firewall> {
    let filter = tables.split("*filter").nth(1)?.split("COMMIT").next()?;
    let drops_rest =
        filter.lines().any(|line| line.starts_with(":INPUT DROP") || line.starts_with(":INPUT REJECT"));
    let mut rules = Vec::new();
    iptables_chain(filter, "INPUT", saved, DEPTH, &mut rules);
    (drops_rest || !rules.is_empty()).then_some(Firewall {
        maker: Maker::Iptables,
        drops_rest,
        rules,
        chain: String::new(),
    })
}

fn iptables_chain(filter: &str, chain: &str, saved: &str, depth: usize, rules: &mut Vec<Rule>) {
    let start = format!("-A {chain} ");
    for line in filter.lines().filter(|line| line.starts_with(&start)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
        let Some(to) = after("-j").or_else(|| after("-g")) else { continue };
        // Connections that stand, other interfaces and protocols are no stranger's first packet; "! -s" speaks for most.
        let is_new =
            after("--ctstate").or_else(|| after("--state")).is_none_or(|state| state.contains("NEW"));
        if !is_new
            || after("-p").is_some_and(|protocol| !matches!(protocol, "tcp" | "all"))
            || words.contains(&"!")
            || rules.len() >= MOST
        {
            continue;
        }
        let listed = after("--dport").or_else(|| after("--dports"));
        let from = after("-s").map(str::to_owned).or_else(|| after("-i").map(|on| format!("on {on}")));
        if from.as_deref() == Some("on lo") {
            continue;
        }
        let accepts = match to {
            "ACCEPT" => true,
            "DROP" | "REJECT" => false,
            "LOG" | "RETURN" => continue,
            other if depth > 0 && listed.is_none() && from.is_none() => {
                iptables_chain(filter, other, saved, depth - 1, rules);
                continue;
            }
            _ => continue,
        };
        let is_kept = saved.lines().any(|known| known.trim() == line.trim());
        let rule = |ports| Rule {
            ports,
            from: from.clone(),
            accepts,
            is_kept,
            text: line.trim_start_matches("-A ").to_owned(),
        };
        match listed {
            Some(listed) => rules.extend(listed.split(',').filter_map(ports).map(|ports| rule(Some(ports)))),
            None => rules.push(rule(None)),
        }
    }
}

/// `nft list ruleset`: the first chain that filters what comes in.
fn of_nftables(ruleset: &str, saved: &str) -> Option<Firewall> {
    let (mut table, mut chain, mut found) = (String::new(), String::new(), None);
    for line in ruleset.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches('{').trim().to_owned();
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches('{').trim().to_owned();
        } else if line.starts_with("type filter hook input") {
            found = Some((table.clone(), chain.clone(), line.contains("policy drop")));
            break;
        }
    }
    let (table, chain, drops_rest) = found?;
    let body = ruleset.split(&format!("table {table} {{")).nth(1)?.split("\ntable ").next()?;
    let mut rules = Vec::new();
    nft_chain(body, &chain, saved, DEPTH, &mut rules);
    let chain = format!("{table} {chain}");
    (drops_rest || !rules.is_empty()).then_some(Firewall { maker: Maker::Nftables, drops_rest, rules, chain })
}

fn nft_chain(body: &str, chain: &str, saved: &str, depth: usize, rules: &mut Vec<Rule>) {
    let Some(text) = body.split(&format!("chain {chain} {{")).nth(1) else { return };
    for line in text.lines().map(str::trim).take_while(|line| *line != "}") {
        if let Some((_, other)) =
            line.split_once("jump ").filter(|(before, _)| before.is_empty() && depth > 0)
        {
            nft_chain(body, other.trim(), saved, depth - 1, rules);
            continue;
        }
        let accepts = line.split(' ').any(|word| word == "accept");
        let ends = accepts || line.split(' ').any(|word| matches!(word, "drop" | "reject"));
        let foreign = ["type ", "ct state", "iif \"lo\"", "iifname \"lo\"", "udp ", "icmp", "ip6 ", "!="];
        if !ends
            || rules.len() >= MOST
            || foreign.iter().any(|word| line.starts_with(word) || line.contains(&format!(" {word}")))
        {
            continue;
        }
        let words = |name: &str| {
            line.split(name).nth(1).map(|rest| match rest.strip_prefix('{') {
                Some(set) => set.split('}').next().unwrap_or_default().to_owned(),
                None => rest.split(' ').next().unwrap_or_default().to_owned(),
            })
        };
        let on = words("iifname ").map(|on| format!("on {}", on.trim_matches('"')));
        let from = words("ip saddr ").map(|from| from.trim().to_owned()).or(on);
        let is_kept = saved.lines().any(|known| known.trim() == line);
        let rule = |ports| Rule { ports, from: from.clone(), accepts, is_kept, text: line.to_owned() };
        match words("tcp dport ") {
            Some(listed) => rules.extend(
                listed.split(',').filter_map(|word| ports(word.trim())).map(|ports| rule(Some(ports))),
            ),
            None => rules.push(rule(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(list: &[&str]) -> Verdict {
        Verdict::Some(list.iter().map(|from| (*from).to_owned()).collect())
    }

    #[test]
    fn ufw_tells_in_columns() {
        let said = "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), deny (routed)\nNew profiles: skip\n\nTo                         Action      From\n--                         ------      ----\n22/tcp                     ALLOW IN    Anywhere\n11434/tcp                  ALLOW IN    10.0.0.5\n7860/tcp on docker0        ALLOW IN    Anywhere\n8000:8010/tcp              DENY IN     Anywhere\n22/tcp (v6)                ALLOW IN    Anywhere (v6)\n";
        let ufw = of_ufw(said).unwrap();
        assert_eq!(ufw.verdict(22), Verdict::Open);
        assert_eq!(ufw.verdict(11434), some(&["10.0.0.5"]));
        assert_eq!(ufw.verdict(7860), some(&["on docker0"]));
        assert_eq!((ufw.verdict(8005), ufw.verdict(80)), (Verdict::Closed, Verdict::Closed));
        assert_eq!(of_ufw("Status: inactive\n"), None);
    }

    #[test]
    fn firewalld_tells_now_and_later() {
        let now = "public (active)\n  target: default\n  services: ssh\n  ports: 11434/tcp 7860/tcp\n  rich rules: \n\trule family=\"ipv4\" source address=\"10.0.0.1\" port port=\"9000\" protocol=\"tcp\" accept\n";
        let wall = of_firewalld(now, "public\n  target: default\n  ports: 7860/tcp\n");
        assert_eq!((wall.verdict(11434), wall.verdict(80)), (Verdict::Open, Verdict::Closed));
        assert_eq!(wall.verdict(9000), some(&["10.0.0.1"]));
        assert!(wall.of_port(7860).all(|rule| rule.is_kept) && wall.of_port(11434).all(|rule| !rule.is_kept));
    }

    #[test]
    fn iptables_are_followed_into_their_chains() {
        let tables = "*filter\n:INPUT DROP [0:0]\n:OWN - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j OWN\n-A OWN -s 10.0.0.0/8 -p tcp -m tcp --dport 11434 -j ACCEPT\n-A OWN -p tcp -m multiport --dports 22,7860 -j ACCEPT\nCOMMIT\n";
        let wall = of_iptables(tables, "-A OWN -p tcp -m multiport --dports 22,7860 -j ACCEPT\n").unwrap();
        assert_eq!(wall.verdict(11434), some(&["10.0.0.0/8"]));
        assert_eq!((wall.verdict(7860), wall.verdict(80)), (Verdict::Open, Verdict::Closed));
        assert!(wall.of_port(7860).all(|rule| rule.is_kept) && wall.of_port(11434).all(|rule| !rule.is_kept));
        assert_eq!(of_iptables("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", ""), None);
    }

    #[test]
    fn nftables_tell_in_their_own_words() {
        let ruleset = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\tct state established,related accept\n\t\tiif \"lo\" accept\n\t\ttcp dport { 22, 7860 } accept\n\t\tip saddr 10.0.0.5 tcp dport 11434 accept\n\t}\n}\n";
        let wall = of_nftables(ruleset, "").unwrap();
        assert_eq!(wall.chain, "inet filter input");
        assert_eq!(wall.verdict(11434), some(&["10.0.0.5"]));
        assert_eq!((wall.verdict(7860), wall.verdict(80)), (Verdict::Open, Verdict::Closed));
        assert_eq!(of_nftables("table ip nat {\n}\n", ""), None);
    }
}
