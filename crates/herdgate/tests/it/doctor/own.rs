//! The gate's own on this machine: its data, its keys, its files, its certificate, the port that it may have.

use super::commands;
use super::machine::Server;
use super::network::Wire;
use crate::harness::{Home, Running, front, leave_out, mention};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A data directory that others look into, and a file in it that is somebody else's.
#[test]
fn a_data_directory_that_is_not_the_gates_alone() {
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    server.here.key("app", &["--expires", "30d"]);
    let data = server.here.data("");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let report = server.doctor();
    let cure = commands(&report.warns("rights", "has mode 0755")["cure"]);
    server.run(&cure[0]);
    server.doctor().is_well("rights");
    let of_root = server.here.data("herdgate.db");
    let of_root =
        if of_root.exists() { of_root } else { fs::read_dir(&data).unwrap().next().unwrap().unwrap().path() };
    std::os::unix::fs::chown(&of_root, Some(65534), None).unwrap();
    let cure = server.doctor().cure("rights", "is somebody else's than");
    server.run(&cure[0]);
    server.doctor().is_sound();
}

/// Keys that nobody has used, and keys without an end.
#[test]
fn keys_that_nobody_needs_or_that_never_end() {
    let Some(server) = Server::new() else { return };
    server.here.key("old", &[]);
    server.here.key("app", &["--expires", "30d"]);
    server.here.run(&["key", "set", "app", "--expires", "never"]);
    let database = fs::read_dir(server.here.data("")).unwrap().map(|file| file.unwrap().path());
    let database = database.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
    let store = rusqlite::Connection::open(database).unwrap();
    store.execute("UPDATE keys SET created = created - 40 * 86400 WHERE name = 'old'", []).unwrap();
    // One that has outlived the time that keys have, and is in use.
    let app = "UPDATE keys SET created = created - 100 * 86400, last_used = created WHERE name = 'app'";
    store.execute(app, []).unwrap();
    drop(store);
    let follow = |finding: &Value| {
        for command in commands(&finding["cure"]) {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            let done = server.here.run(&words);
            assert_eq!(done.code, 0, "{command}: {}", done.err);
        }
    };
    let report = server.doctor();
    follow(report.warns("keys", "never used in 30 days and more: old"));
    follow(report.warns("keys", "never end: app"));
    server.doctor().is_well("keys");
}

/// A proxy of the variables stands before the servers here.
#[test]
fn a_proxy_of_the_variables_in_the_way() {
    let set = |home: Home| home.env("http_proxy", "http://me:secret@proxy.example:3128");
    let Some(server) = Server::with(|home, first| set(home).through(first)) else { return };
    let report = server.doctor();
    let finding =
        report.warns("proxy", "http_proxy=http://...@proxy.example:3128, and NO_PROXY lacks localhost");
    let cure = commands(&finding["cure"]);
    let first = format!("{}\n{}", server.wire.net.moves_into("server"), cure[0]);
    let home = set(Home::new()).through(&first);
    super::doctor(&home, &["--no-inference"]).is_well("proxy");
}

/// Too few files may be open, for a gate that runs and for one that will.
#[test]
fn too_few_files_may_be_open() {
    let Some(server) = Server::with(|home, first| home.through(&format!("{first}\nulimit -n 500"))) else {
        return;
    };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    let gate = server.here.begin_at("127.0.0.1:7860", &[]);
    let report = server.doctor();
    let cure = commands(&report.warns("nofile", "the gate, herdgate (pid ")["cure"]);
    // Raising a limit takes a right that root has not on every machine of tests.
    let raises = Command::new("/bin/sh").args(["-c", "ulimit -n 500; ulimit -n 65536"]).output().unwrap();
    if raises.status.success() {
        server.run(&cure[0]);
        server.doctor().is_well("nofile");
    } else {
        mention("raising the limit of a program that runs, which this machine's root may not");
    }
    gate.end();
    let report = server.doctor();
    let cure = commands(&report.warns("nofile", "a program that is started here may open 500 files")["cure"]);
    let first = format!("{}\n{}", server.wire.net.moves_into("server"), cure[0]);
    super::doctor(&Home::new().through(&first), &["--no-inference"]).is_well("nofile");
}

/// The output of a gate goes into a file that nothing cuts.
#[test]
fn output_that_grows_for_ever() {
    let Some(server) = Server::new() else { return };
    let rules = server.wire.net.folder("server").join("logrotate.d");
    if !Path::new("/etc/logrotate.d").is_dir() {
        return leave_out("there is no /etc/logrotate.d");
    }
    fs::create_dir_all(&rules).unwrap();
    let log = server.here.path("gate.log");
    let script = server.here.path("herdgate.sh");
    let start = format!(
        "HOME={0} HERDGATE_DATA={0}/data exec {1} serve --listen 127.0.0.1:7860 2>>{2}",
        server.here.path("").display(),
        script.display(),
        log.display()
    );
    let gate = server.start(&start, "127.0.0.1:7860");
    let report = server.doctor();
    let seen = format!("the output of herdgate goes into {}", log.display());
    let cure = commands(&report.warns("logs", &seen)["cure"]);
    server.run(&cure[0]);
    server.doctor().is_well("logs");
    if Path::new("/usr/sbin/logrotate").is_file() {
        server.run("/usr/sbin/logrotate --debug /etc/logrotate.d/herdgate");
    }
    // A report that somebody writes into a file ends by itself.
    fs::remove_file(rules.join("herdgate")).unwrap();
    drop(gate);
    let report = server.here.path("report.json");
    server.run(&format!(
        "HOME={0} HERDGATE_DATA={0}/data {1} doctor --json --no-inference > {2} 2>&1 || true",
        server.here.path("").display(),
        script.display(),
        report.display()
    ));
    let text = fs::read_to_string(&report).unwrap();
    assert!(text.contains("\"findings\"") && !text.contains("report.json"), "{text}");
    fs::remove_dir_all(server.wire.net.folder("server")).unwrap();
}

/// The disk of the gate's data is full. It is a small one that only these programs see.
#[test]
fn a_disk_that_is_full() {
    let (Some(unshare), Some(nsenter)) = (front::find("unshare"), front::find("nsenter")) else { return };
    let Some(wire) = Wire::new() else { return };
    let home = Home::new();
    let data = home.data("");
    fs::create_dir_all(&data).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=100m,mode=700 tmpfs {0} && head -c 60000000 /dev/zero > {0}/forgotten.tar && echo mounted && exec sleep 3600",
        data.display()
    );
    let mut holder = wire.net.command("server", &unshare);
    let holder =
        Running::start(holder.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &mount]));
    holder.prints("that the disk is there", |line| line == "mounted");
    let enter = format!("{nsenter} --mount --net --target {}", holder.pid());
    let home = home.through(&format!(
        "[ -n \"$MOVED\" ] || MOVED=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin exec {enter} /bin/sh \"$0\" \"$@\""
    ));
    let cure = super::doctor(&home, &["--no-inference"]).cure("disk", "MiB left for the gate's data in");
    let run = |command: &str| {
        let words = format!("{enter} /bin/sh -ec '{}'", command.replace("sudo ", ""));
        let done = Command::new("/bin/sh").args(["-c", &words]).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let shown: Vec<String> = cure.iter().map(|command| run(command)).collect();
    let largest =
        shown[1].lines().find(|line| line.contains("forgotten.tar")).unwrap_or_else(|| panic!("{shown:?}"));
    run(&format!("rm {}", largest.split('\t').nth(1).unwrap()));
    super::doctor(&home, &["--no-inference"]).is_sound();
}

/// A certificate that ends soon.
#[test]
fn a_certificate_that_ends_soon() {
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut soon = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let day = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5 * 24))
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let part = |number: i8| u8::try_from(number).unwrap();
    soon.not_after = rcgen::date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day()));
    let (cert, key) = (server.here.path("soon.pem"), server.here.path("soon.key"));
    fs::write(&cert, soon.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    server.settings(&format!("[tls]\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display()));
    let gate = server.here.begin_at("127.0.0.1:7860", &[]);
    gate.running.says("its upstreams", |line| line.starts_with("  upstream "));
    let args = |ca: &Path| {
        ["https://127.0.0.1:7860", "--ca", ca.to_str().unwrap(), "--no-inference"].map(str::to_owned)
    };
    let look = |ca: &Path| {
        let args = args(ca);
        super::doctor(&server.here, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let report = look(&cert);
    let lines = commands(&report.warns("certificate", "days left")["cure"]);
    gate.end();
    server.settings(&lines[0]);
    let gate = server.here.begin_at("127.0.0.1:7860", &[]);
    gate.running.says("its upstreams", |line| line.starts_with("  upstream "));
    look(&server.here.data("tls-ca.pem")).is_well("certificate");
    gate.end();
}

/// A port that this user may not have.
#[test]
fn a_port_below_1024() {
    let Some(setpriv) = front::find("setpriv") else { return };
    let Some(wire) = Wire::new() else { return };
    let home = Home::with_own_program().settings("[listen]\naddress = \"127.0.0.1:80\"\n");
    for path in [home.path(""), home.path("bin"), home.path("programs")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let low =
        format!("{setpriv} --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all");
    let first = format!(
        "{}\n[ -n \"$LOW\" ] || LOW=1 exec {low} /bin/sh \"$0\" \"$@\"",
        wire.net.moves_into("server")
    );
    let home = home.through(&first);
    fs::set_permissions(home.path("herdgate.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let report = super::doctor(&home, &["--no-inference"]);
    // Who is not root cannot tell the programs of other tests from those of this network: only this check counts.
    let is_it = |finding: &&Value| finding["check"] == "taken" && finding["mark"] == "bad";
    let finding = report.findings.iter().find(is_it).unwrap_or_else(|| panic!("{:#?}", report.findings));
    assert!(
        finding["seen"].as_str().unwrap().contains("port 80 is below 1024: this user may not listen there"),
        "{finding}"
    );
    let other = &finding["cure"]["or"];
    let command = other
        .as_array()
        .unwrap()
        .iter()
        .flat_map(commands)
        .find(|command| command.starts_with("herdgate serve"));
    let listen = command.unwrap().rsplit(' ').next().unwrap().to_owned();
    fs::write(home.path("herdgate.toml"), format!("[listen]\naddress = \"{listen}\"\n")).unwrap();
    super::doctor(&home, &["--no-inference"]).is_well("taken");
}
