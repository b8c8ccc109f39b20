//! Does a proxy or a tunnel of this machine lead to Ollama itself, past the gate?

use super::{MACHINE, gate_at, taken};
use crate::doctor::facts::{Facts, Front, Machine, Tunnel};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "front";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    let tunnels = machine.tunnels.iter().map(|one| tunnel(machine, one));
    let unseen = machine.has_unseen_tunnel.then(unseen);
    tunnels.chain(machine.fronts.iter().map(|one| front(machine, one))).chain(unseen).collect()
}

fn front(machine: &Machine, front: &Front) -> Finding {
    let Front { program, file, line, to, .. } = front;
    let seen = format!("{program} leads to Ollama itself: {file}:{line} names {to}");
    let escaped = to.replace('.', "\\.").replace('[', "\\[").replace(']', "\\]");
    let mut cure = Cure::run(format!("sudo sed -i.bak '{line}s#{escaped}#{}#' {file}", gate_at(machine)));
    if let Some((test, reload)) = reload(program, file) {
        cure = cure.then(test).then(reload);
    }
    if front.is_far {
        cure = cure.note("the gate asks all of them: upstreams = [...] in herdgate.toml");
    }
    let finding = if !front.is_running {
        Finding::warn(CHECK, MACHINE, format!("{seen}; it does not run"))
            .because("once it runs, whoever reaches it goes around the gate")
    } else if front.is_far {
        Finding::warn(CHECK, MACHINE, seen).because(
            "where that is an Ollama and not a gate, whoever reaches this proxy uses and deletes its models without a key",
        )
    } else if front.asks_credential {
        Finding::warn(CHECK, MACHINE, seen).because(
            "its one credential opens everything, deleting models too, and nobody is told from others",
        )
    } else {
        Finding::bad(CHECK, MACHINE, seen)
            .because("whoever reaches it uses, pulls and deletes models without a key")
    };
    if front.is_foreign {
        let why = format!(
            "{}; others than root choose what is in that file, so that no command of root's should name it: ask who started {program}",
            finding.why
        );
        return finding.because(why);
    }
    finding.cured(cure)
}

fn tunnel(machine: &Machine, tunnel: &Tunnel) -> Finding {
    let Tunnel { program, word } = tunnel;
    let is_named = |port: &&u16| word.contains(&port.to_string());
    let port = machine.ollama_ports.iter().find(is_named).copied().unwrap_or(11434);
    let gate = gate_at(machine).rsplit(':').next().unwrap_or_default().to_owned();
    let again = word.replace(&port.to_string(), &gate);
    let again = match program.name.as_str() {
        "cloudflared" => format!("cloudflared tunnel --url {again}"),
        "ngrok" => format!("ngrok http {again}"),
        "tailscale" => format!("tailscale funnel {again}"),
        name => format!("{name} {again}"),
    };
    Finding::bad(CHECK, MACHINE, format!("{} leads to Ollama itself: {word}", program.shown()))
        .because("whoever finds the other end uses, pulls and deletes models without a key")
        .cured(taken::stop(program).then(again).note("with the other words that it was started with"))
}

/// Cloudflare keeps the routes, and cloudflared says them at each start and change.
fn unseen() -> Finding {
    Finding::warn(CHECK, MACHINE, "a tunnel of cloudflared runs, and where it leads is kept at Cloudflare")
        .because("a route to port 11434 lets whoever knows its name use, pull and delete models without a key")
        .cured(
            Cure::run("sudo journalctl -u cloudflared -g 'Updated to new configuration' -n 1 -o cat --no-pager").note(
                "tells its routes, as do its public hostnames at one.dash.cloudflare.com: those to port 11434 belong to the gate's",
            ),
        )
}

/// Testing the new file, and putting it in force.
fn reload(program: &str, file: &str) -> Option<(String, String)> {
    let service = |test: &str| (test.to_owned(), format!("sudo systemctl reload {program}"));
    Some(match program {
        "nginx" if file.starts_with("/etc/") => service("sudo nginx -t"),
        "nginx" => (format!("sudo nginx -t -c {file}"), format!("sudo nginx -s reload -c {file}")),
        "caddy" => {
            let words = format!("--config {file} --adapter caddyfile");
            let test = format!("caddy validate {words}");
            if file.starts_with("/etc/") { service(&test) } else { (test, format!("caddy reload {words}")) }
        }
        "cloudflared" => (
            format!("cloudflared tunnel --config {file} ingress validate"),
            "sudo systemctl restart cloudflared".to_owned(),
        ),
        "haproxy" => service(&format!("sudo haproxy -c -f {file}")),
        "apache2" => service("sudo apachectl configtest"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_names_a_file_that_others_choose() {
        let told = |is_foreign| {
            let front = Front {
                program: "nginx".into(),
                file: "/srv/n.conf".into(),
                line: 3,
                to: "localhost:11434".into(),
                is_running: true,
                is_foreign,
                ..Front::default()
            };
            let machine = Machine { fronts: vec![front], ..Machine::default() };
            judge(&Facts { machine: Some(machine), ..Facts::default() }).remove(0)
        };
        let run = told(false).cure.unwrap().run;
        assert_eq!(run[1..], ["sudo nginx -t -c /srv/n.conf", "sudo nginx -s reload -c /srv/n.conf"]);
        let foreign = told(true);
        assert!(foreign.seen.contains("/srv/n.conf:3") && foreign.cure.is_none(), "{foreign:?}");
    }
}
