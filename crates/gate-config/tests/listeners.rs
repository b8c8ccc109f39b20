//! What a user sees of wrong listeners: each file text with everything that is said about it.

mod sources;

use sources::{Said, load};

/// File texts, each with all that is told about it.
type Rows = &'static [(&'static str, &'static [&'static str])];

#[track_caller]
fn told(rows: Rows) {
    for (text, told) in rows {
        let problems = load(Said { file: Some(text), ..Said::default() }).err();
        assert_eq!(problems.unwrap_or_default(), *told, "{text}");
    }
}

#[test]
fn listeners() {
    told(LISTENERS);
}

#[test]
fn callers_without_a_key() {
    told(ANONYMOUS);
}

#[test]
fn listeners_beside_the_rest() {
    told(BESIDE);
}

/// Addresses of listeners, and who is believed there.
const LISTENERS: Rows = &[
    (
        "[[listen]]\naddress = \"7860\"\n[[listen]]\naddress = \"gpu1:80\"\n[[listen]]\n",
        &[
            "herdgate.toml:2:11 \"7860\" has no host  hint: write \":7860\" for every address, or \"127.0.0.1:7860\" for this machine alone",
            "herdgate.toml:4:11 \"gpu1:80\" has a host that is neither an IP address nor localhost  hint: write \":7860\", \"127.0.0.1:7860\" or \"[::1]:7860\"",
            "herdgate.toml:5:1 a listener without an address  hint: write address = \":7860\" in it",
        ],
    ),
    (
        "[[listen]]\naddress = \":80\"\n[[listen]]\naddress = \"127.0.0.1:80\"\n[[listen]]\naddress = \"127.0.0.1:81\"",
        &["herdgate.toml:4:11 127.0.0.1:80 and [::]:80 are the same port of the same address"],
    ),
    (
        "[[listen]]\naddress = \":1\"\ntsl = true\n[[listen]]\naddress = \":2\"\ntls = \"true\"\nredirect = 0\n[[listen]]\naddress = \":3\"\nredirect = \"443\"\n",
        &[
            "herdgate.toml:3:1 unknown setting \"tsl\"  hint: did you mean \"tls\"?",
            "herdgate.toml:6:7 wants true or false, not a text  hint: write it without quotes",
            "herdgate.toml:7:12 0 is no port  hint: true leads to the listener with TLS; 443 to the port that clients reach it by",
            "herdgate.toml:10:12 wants true, false or a port, not a text  hint: true leads to the listener with TLS; 443 to the port that clients reach it by",
        ],
    ),
    (
        "[listen]\ntrusted_proxies = [\"10.0.0.1/8\", \"gpu1\", 5]\n",
        &[
            "herdgate.toml:2:20 \"10.0.0.1/8\" is an address in 10.0.0.0/8: write that, or /32 for it alone  hint: write trusted_proxies = [\"10.0.0.0/8\"]",
            "herdgate.toml:2:34 \"gpu1\" is no network: write it like 172.18.0.0/24, fd00::/8 or 192.168.1.7  hint: write trusted_proxies = [\"10.0.0.0/8\"]",
            "herdgate.toml:2:42 wants a network between quotes, not a number",
        ],
    ),
];

/// Who is let in without a key.
const ANONYMOUS: Rows = &[
    (
        "[listen]\ninsecure_anonymous = true\n[server]\ntrusted_proxies = [\"::1\", \"::1\"]\n",
        &[
            "herdgate.toml:2:22 wants a table, not true or false  hint: write insecure_anonymous = { networks = [\"172.18.0.0/24\"], as = \"stack\" }",
            "herdgate.toml:4:27 ::1 stands here twice",
        ],
    ),
    (
        "[listen]\ninsecure_anonymous = { networks = [], as = \"a b\", by = 1 }\n",
        &[
            "herdgate.toml:2:35 wants at least a network",
            "herdgate.toml:2:44 holds a blank  hint: leave it out",
            "herdgate.toml:2:51 unknown setting \"by\" of insecure_anonymous  hint: there are networks, as",
        ],
    ),
    (
        "[listen]\ninsecure_anonymous = { networks = [\"10.0.0.0/8\", \"0.0.0.0/0\"] }\n",
        &[
            "herdgate.toml:2:22 insecure_anonymous without as  hint: write insecure_anonymous = { networks = [\"172.18.0.0/24\"], as = \"stack\" }",
            "herdgate.toml:2:35 0.0.0.0/0 is not a private network: nobody is let in from there without a key  hint: name the network of the stack alone: docker network inspect NAME shows it",
        ],
    ),
    (
        "[listen]\naddress = \"8.8.8.8:1\"\ninsecure_anonymous = { networks = [\"10.0.0.0/8\"], as = \"a\" }\n",
        &[
            "herdgate.toml:2:11 the listener 8.8.8.8:1 is public, and would let callers in without a key  hint: listen on the address in the private network",
        ],
    ),
];

/// Listeners that do not go with the rest.
const BESIDE: Rows = &[
    (
        "[listen]\nredirect = true\n",
        &[
            "herdgate.toml:1:2 the listener [::]:7860 redirects, and no listener speaks TLS  hint: add a [[listen]] for it, and a certificate in [tls]",
        ],
    ),
    (
        "[listen]\naddress = \":1\"\ntls = true\n",
        &[
            "herdgate.toml:2:11 the listener [::]:1 has tls = true, and there is no certificate  hint: name one in [tls], or write self_signed = true there",
        ],
    ),
    (
        "tls.self_signed = true\n[[listen]]\naddress = \":1\"\n[[listen]]\naddress = \":2\"\nredirect = true\ntls = true\n[[listen]]\naddress = \":3\"\nredirect = true\ninsecure_anonymous = { networks = [\"10.0.0.0/8\"], as = \"a\" }\n",
        &[
            "herdgate.toml:5:11 the listener [::]:2 has tls = true and redirect = true  hint: leave tls out: who comes to be redirected does not speak TLS yet",
            "herdgate.toml:9:11 the listener [::]:3 redirects, and lets callers in without a key  hint: give each its own [[listen]]",
        ],
    ),
];
