//! `herdgate deploy compose` and `dockerfile` as somebody uses them: printed, written beside other files, taken back.

use crate::harness::{Home, leave_out};
use std::process::Command;

#[test]
fn a_stack_is_written_once_and_taken_back() {
    for (kind, name) in [("compose", "compose.yaml"), ("dockerfile", "Dockerfile")] {
        let home = Home::new();
        let before = "# somebody's own\n";
        std::fs::write(home.path(name), before).unwrap();
        let printed = home.run(&["deploy", kind]);
        assert_eq!(printed.code, 0, "{}", printed.err);
        assert!(printed.out.contains(&format!("# Made by `herdgate deploy {kind}`; belongs at {name}.\n")));

        let written = home.run(&["deploy", kind, "--write", "--yes"]);
        assert_eq!(written.code, 0, "{}", written.err);
        assert!(written.err.contains("-# somebody's own"), "the difference: {}", written.err);
        assert!(written.err.contains("docker "), "what must follow: {}", written.err);
        assert_eq!(std::fs::read_to_string(home.path(name)).unwrap(), printed.out);
        let again = home.run(&["deploy", kind, "--write", "--yes"]);
        assert!(again.err.contains("nothing was changed"), "{}", again.err);

        let undone = home.run(&["deploy", kind, "--undo", "--yes"]);
        assert_eq!(undone.code, 0, "{}", undone.err);
        assert_eq!(std::fs::read_to_string(home.path(name)).unwrap(), before);
    }
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let home = Home::new();
    for words in [
        &["--all-in-one", "--provider"][..],
        &["--provider", "--consumer"],
        &["--consumer", "--publish", "7860"],
        &["--gate", "http://gpu1:7860"],
        &["--coolify", "--auth-token-file", "a"],
        &["--gpu", "intel"],
        &["--publish", "gpu1:80"],
        &["--host", "cuda.local"],
    ] {
        let told = home.run(&[&["deploy", "compose"], words].concat());
        assert_eq!((told.code, told.out.as_str()), (64, ""), "{words:?}: {}", told.err);
    }
}

#[test]
fn what_is_printed_is_what_docker_compose_reads() {
    let home = Home::new();
    let printed = home.run(&["deploy", "compose", "--open-webui", "--n8n", "--gpu", "nvidia"]);
    std::fs::write(home.path("compose.yaml"), &printed.out).unwrap();
    let mut command = Command::new("docker-compose");
    command.args(["-f", "compose.yaml", "config"]).current_dir(home.path(""));
    let leads = [("STACK_OLLAMA_URL", "http://gpu1:11434"), ("OLLAMA_URL", "http://gpu2:11434")];
    match command.envs(leads).output() {
        Ok(read) => {
            let (out, err) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
            assert!(read.status.success(), "{err}");
            assert!(out.contains("HERDGATE_UPSTREAMS: http://gpu1:11434"), "{out}");
            assert!(out.contains("source: auth-token") || out.contains("- auth-token"), "{out}");
        }
        Err(error) => leave_out(&format!("docker-compose: {error}")),
    }
}

#[test]
fn what_a_folder_says_to_its_programs_leads_no_stack_past_the_gate() {
    let home = Home::new();
    let env = home.run(&["key", "create", "app", "--for", "env", "--gate", "http://192.168.1.100:7860"]);
    assert!(env.out.contains("\nOLLAMA_URL=http://192.168.1.100:7860\n"), "{}", env.out);
    std::fs::write(home.path(".env"), &env.out).unwrap();
    for (words, lines) in [
        (&["--consumer", "--open-webui", "--n8n"][..], &["OLLAMA_BASE_URL: http://connect:11434"][..]),
        (&[], &["HERDGATE_UPSTREAMS: http://ollama:11434"]),
    ] {
        let printed = home.run(&[&["deploy", "compose"], words].concat());
        assert!(
            printed.err.contains("OLLAMA_URL, OLLAMA_BASE_URL, OLLAMA_HOST, which this"),
            "{}",
            printed.err
        );
        std::fs::write(home.path("compose.yaml"), &printed.out).unwrap();
        let mut command = Command::new("docker-compose");
        match command.args(["-f", "compose.yaml", "config"]).current_dir(home.path("")).output() {
            Ok(read) => {
                let out = String::from_utf8_lossy(&read.stdout);
                assert!(lines.iter().all(|line| out.contains(line)), "{words:?}: {out}");
                assert!(!out.contains("192.168.1.100"), "{words:?}: {out}");
            }
            Err(error) => leave_out(&format!("docker-compose: {error}")),
        }
    }
}
