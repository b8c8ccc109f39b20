//! Is the certificate to be trusted: who vouches for it, for which names, and for how long?

use crate::doctor::facts::{Facts, Fault, Place, Role, TlsFacts};
use crate::doctor::finding::{Cure, Finding};
use jiff::Timestamp;

const CHECK: &str = "certificate";
const DAY: i64 = 24 * 3600;
/// Who renews by hand has still time; who has it renewed would have it by now (Let's Encrypt renews 30 days before).
const SOON: i64 = 14 * DAY;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.places.iter().filter_map(|place| Some(one(place, place.tls.as_ref()?))).collect()
}

fn one(place: &Place, tls: &TlsFacts) -> Finding {
    let Some(fault) = &tls.fault else { return sound(place, tls) };
    let url = &place.url;
    let bad = |seen: String| Finding::bad(CHECK, url, seen);
    match fault {
        Fault::NoTls | Fault::Closed | Fault::Silent if tls.is_plain => {
            let plain = url.replacen("https://", "http://", 1);
            bad(format!("port {} speaks plain HTTP, and was asked for TLS", place.port))
                .because(
                    "Ollama itself speaks no TLS: an https:// URL leads nowhere without a gate or a proxy",
                )
                .cured(
                    Cure::run(format!("herdgate doctor {plain}"))
                        .note("write this URL wherever the other stands"),
                )
        }
        Fault::NoTls => bad("what answers there speaks no TLS".to_owned())
            .because("another program has this port")
            .cured(Cure::run(format!("sudo ss -tlnp 'sport = :{}'", place.port)).on(place.host.clone())),
        Fault::Closed => bad("it closes the connection in the middle of the handshake".to_owned())
            .because("the server has no certificate for this name, or a proxy between takes no TLS")
            .cured(Cure::run(format!("herdgate doctor {}", url.replacen("https://", "http://", 1)))),
        Fault::Silent => bad("it takes connections, and says nothing to the handshake".to_owned())
            .because("the server hangs, or a proxy before it waits for a server that is away")
            .cured(Cure::run(format!("sudo ss -tlnp 'sport = :{}'", place.port)).on(place.host.clone())),
        Fault::WantsCertificate => bad("it wants a certificate of its clients".to_owned())
            .because("clients without one are turned away")
            .cured(wanted(place)),
        Fault::UnknownIssuer => bad(issuer(tls))
            .because("every client refuses it, unless it is told to trust that authority")
            .cured(trusted(place)),
        Fault::Name => bad(format!("the certificate is for {}, and not for {}", names(tls), place.host))
            .because("every client refuses it under this name")
            .cured(renamed(place, tls)),
        Fault::Expired => bad(format!("the certificate was good until {}", date(tls.until)))
            .because("every client refuses it")
            .cured(renewed(place)),
        Fault::NotYet => bad(format!(
            "the certificate is good from {} on, and it is {} here",
            date(tls.from),
            date(tls.now)
        ))
        .because("the clock of this machine is behind, or that of whoever made it was ahead")
        .cured(Cure::run("sudo timedatectl set-ntp true")),
        Fault::Authority => bad(format!("the certificate, for {}, is an authority's (CA:TRUE)", names(tls)))
            .because(
                "many clients, herdgate's too, refuse it as a server's, also where they are told to trust it",
            )
            .cured(remade(place)),
        Fault::Other(why) => bad(format!("TLS fails: {why}")).because("no client gets through"),
    }
}

fn sound(place: &Place, tls: &TlsFacts) -> Finding {
    let left = tls.until - tls.now;
    let seen = format!("for {}, by {}, until {}", names(tls), tls.issuer, date(tls.until));
    if left > SOON {
        return Finding::ok(CHECK, &place.url, seen);
    }
    let days = left / DAY;
    Finding::warn(CHECK, &place.url, format!("{seen}: {days} day{} left", if days == 1 { "" } else { "s" }))
        .because("then every client refuses it")
        .cured(renewed(place))
}

fn issuer(tls: &TlsFacts) -> String {
    if tls.is_self_signed {
        return "the certificate vouches for itself".to_owned();
    }
    match tls.chain {
        1 => format!(
            "nobody whom this machine trusts vouches for the certificate, by {}; it came alone",
            tls.issuer
        ),
        _ => format!("nobody whom this machine trusts vouches for the certificate, by {}", tls.issuer),
    }
}

fn names(tls: &TlsFacts) -> String {
    if tls.names.is_empty() { "no name".to_owned() } else { tls.names.join(", ") }
}

fn trusted(place: &Place) -> Cure {
    match place.role {
        Role::Upstream => Cure::run(format!(
            "[[upstream]]\nurl = \"{}\"\nca = \"/etc/herdgate/upstream-ca.pem\"",
            place.url
        ))
        .within("herdgate.toml")
        .note("with the file of the authority that made its certificate"),
        Role::Target | Role::Listener => Cure::run(format!("herdgate doctor {} --ca tls-ca.pem", place.url))
            .note("with the tls-ca.pem of that gate's data directory, which clients must trust, too")
            .or(Cure::run("sudo cp tls-ca.pem /usr/local/share/ca-certificates/herdgate.crt")
                .then("sudo update-ca-certificates")
                .note("for every program of this machine")),
    }
}

fn wanted(place: &Place) -> Cure {
    let lines = format!(
        "[[upstream]]\nurl = \"{}\"\nclient_cert = \"/etc/herdgate/client.pem\"\nclient_key = \"/etc/herdgate/client.key\"",
        place.url
    );
    Cure::run(lines).within("herdgate.toml").note("with a certificate of an authority that it trusts")
}

/// The first name that the certificate is for, in the place of the one that was asked for.
fn renamed(place: &Place, tls: &TlsFacts) -> Cure {
    let plain = tls.names.iter().find(|name| !name.starts_with('*'));
    match plain {
        Some(name) => {
            let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            let url = place.url.replacen(&place.host, &name, 1);
            Cure::run(format!("herdgate doctor {url}")).note("write this URL wherever the other stands")
        }
        None => renewed(place),
    }
}

fn renewed(place: &Place) -> Cure {
    let on = |cure: Cure| if place.role == Role::Listener { cure } else { cure.on(place.host.clone()) };
    on(Cure::run("[tls]\nself_signed = true")
        .within("herdgate.toml")
        .note("the gate renews its own; tls.domains has a public one renewed"))
    .or(on(Cure::run("sudo certbot renew").note("where certbot made it")))
}

/// As a server's own, and no authority's.
fn remade(place: &Place) -> Cure {
    let host = &place.host;
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    let command = format!(
        "openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN={host} -addext subjectAltName={kind}:{host} -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem"
    );
    Cure::run(command)
        .on(host.clone())
        .note("in the place of the one there; clients trust cert.pem")
        .or(renewed(place))
}

fn date(second: i64) -> String {
    Timestamp::from_second(second)
        .map_or_else(|_| second.to_string(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Mark;

    const NOW: i64 = 1_795_000_000;

    fn found(change: impl FnOnce(&mut TlsFacts)) -> Finding {
        let mut tls = TlsFacts {
            names: vec!["gate.example".into(), "10.0.0.2".into()],
            issuer: "CN=Someone".into(),
            chain: 2,
            from: NOW - DAY,
            until: NOW + 60 * DAY,
            now: NOW,
            ..TlsFacts::default()
        };
        change(&mut tls);
        let place = Place {
            url: "https://gpu1:7860".into(),
            host: "gpu1".into(),
            port: 7860,
            is_tls: true,
            tls: Some(tls),
            ..Place::default()
        };
        judge(&Facts { places: vec![place], ..Facts::default() }).pop().unwrap()
    }

    #[test]
    fn every_fault_has_its_words_and_its_cure() {
        for (fault, is_plain, seen, cure) in [
            (Fault::NoTls, true, "speaks plain HTTP", "herdgate doctor http://gpu1:7860"),
            (Fault::Closed, true, "speaks plain HTTP", "herdgate doctor http://gpu1:7860"),
            (Fault::NoTls, false, "speaks no TLS", "sudo ss -tlnp 'sport = :7860'"),
            (Fault::Closed, false, "in the middle", "herdgate doctor http://gpu1:7860"),
            (Fault::Silent, true, "speaks plain HTTP", "herdgate doctor http://gpu1:7860"),
            (Fault::Silent, false, "says nothing", "sudo ss -tlnp 'sport = :7860'"),
            (Fault::WantsCertificate, false, "of its clients", "client_cert"),
            (Fault::UnknownIssuer, false, "by CN=Someone", "--ca tls-ca.pem"),
            (
                Fault::Name,
                false,
                "is for gate.example, 10.0.0.2, and not for gpu1",
                "https://gate.example:7860",
            ),
            (Fault::Authority, false, "is an authority's (CA:TRUE)", "CA:FALSE"),
            (Fault::Expired, false, "good until 2027-01-17", "self_signed"),
            (Fault::NotYet, false, "good from 2026-11-17", "timedatectl"),
        ] {
            let finding = found(|tls| {
                tls.fault = Some(fault.clone());
                tls.is_plain = is_plain;
            });
            assert_eq!(finding.mark, Mark::Bad, "{fault:?}");
            assert!(finding.seen.contains(seen), "{fault:?}: {}", finding.seen);
            assert!(finding.cure.unwrap().run[0].contains(cure), "{fault:?}");
        }
    }

    #[test]
    fn it_is_said_before_it_expires() {
        assert_eq!(found(|_| ()).mark, Mark::Ok);
        let soon = found(|tls| tls.until = NOW + DAY + 5);
        assert!(soon.mark == Mark::Warn && soon.seen.ends_with(": 1 day left"), "{}", soon.seen);
    }
}
