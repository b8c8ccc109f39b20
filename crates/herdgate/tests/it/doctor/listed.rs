//! The situations that are set up for real, by the names of their tests: something else is called wrong first, its cure is run as it is
//! told, and then nothing is wrong.

use std::collections::BTreeSet;

const CURED: [(&str, &[&str]); 6] = [
    (
        include_str!("../doctor.rs"),
        &[
            "tls_on_a_plain_port",
            "plain_http_on_a_tls_port_and_an_unknown_authority",
            "an_expired_certificate",
            "a_model_that_is_too_large_has_a_smaller_sibling",
            "a_model_that_can_never_fit_is_not_asked",
            "an_upstream_that_wants_a_key",
        ],
    ),
    (
        include_str!("container.rs"),
        &[
            "a_container_that_does_not_know_its_host",
            "a_container_that_asks_itself_and_then_a_loopback",
            "a_container_in_another_network",
            "a_container_past_the_gate_and_one_that_is_kept_out",
        ],
    ),
    (
        include_str!("machine.rs"),
        &[
            "an_ollama_at_the_port_of_the_gate",
            "another_program_at_the_port_of_the_gate",
            "an_ollama_on_every_address_beside_the_gate",
            "an_ollama_that_the_gate_knows_on_loopback_and_others_reach",
            "an_ollama_that_wants_no_key",
            "an_upstream_of_this_machine_off_loopback",
            "an_ollama_at_another_port",
            "proxies_that_lead_past_the_gate",
            "a_tunnel_that_leads_past_the_gate",
            "rules_that_close_the_gate_or_open_ollama",
        ],
    ),
    (
        include_str!("network.rs"),
        &[
            "a_name_that_nobody_knows",
            "a_local_name_that_only_the_network_knows",
            "a_name_that_is_misspelt",
            "ipv6_first_and_the_server_has_ipv4_alone",
            "a_firewall_between",
            "an_ollama_on_loopback_alone",
            "a_port_and_a_path_that_were_not_meant",
        ],
    ),
    (include_str!("own.rs"), &["a_data_directory_that_is_not_the_gates_alone"]),
    (
        include_str!("proxies.rs"),
        &[
            "a_proxy_that_gives_up_or_keeps_words_back",
            "words_that_a_proxy_keeps_back",
            "a_proxy_that_cuts_an_answer_in_its_middle",
        ],
    ),
];

/// The lines of a test of this name.
#[track_caller]
fn lines<'s>(source: &'s str, name: &str) -> &'s str {
    let (_, rest) =
        source.split_once(&format!("#[test]\nfn {name}() {{\n")).unwrap_or_else(|| panic!("no test {name}"));
    rest.split_once("\n}\n").unwrap().0
}

#[test]
fn twenty_situations_and_more_are_cured_for_real() {
    let mut names = BTreeSet::new();
    for (source, tests) in CURED {
        for name in tests {
            let body = lines(source, name);
            let told = body
                .find(".cure(\"")
                .or_else(|| body.find(".first(\""))
                .or_else(|| body.find(".cure(check"))
                .or_else(|| body.find(".cure(\n"));
            let told = told.unwrap_or_else(|| panic!("{name}: nothing is wrong first"));
            let after = &body[told..];
            let run =
                after.find("cure[").or_else(|| after.find("cure.iter()")).or_else(|| after.find("&lines["));
            let run = run.unwrap_or_else(|| panic!("{name}: its cure is not run"));
            assert!(after[run..].contains(".is_sound()"), "{name}: nobody looks whether it is cured");
            assert!(!body.contains("What the installer would do"), "{name}");
            assert!(names.insert(*name), "{name} is listed twice");
        }
    }
    assert!(names.len() >= 20, "{}", names.len());
}
