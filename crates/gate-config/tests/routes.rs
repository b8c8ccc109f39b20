//! `[[route]]`, as people write it.

#![expect(clippy::panic, reason = "a test may")]

mod sources;

use gate_config::{changes, to_toml};
use gate_types::Scope;
use sources::{Said, load};

const UPSTREAM: &str = "[[upstream]]\nurl = \"http://gpu1:8000\"\nname = \"gpu1\"\n";

fn file(tables: &str) -> Result<gate_config::Loaded, Vec<String>> {
    load(Said { file: Some(&format!("{UPSTREAM}{tables}")), ..Said::default() })
}

/// The one problem of these tables.
#[track_caller]
fn problem(tables: &str) -> String {
    let problems = file(tables).err().unwrap_or_default();
    let [problem] = &problems[..] else { panic!("{tables}: {problems:?}") };
    problem.clone()
}

fn route(lines: &str) -> String {
    format!("[[route]]\npath = \"/tts/v1/{{rest}}\"\nclass = \"infer\"\nupstream = \"gpu1\"\n{lines}")
}

#[test]
fn a_table_is_one_route() {
    let text =
        route("upgrade = true\n") + "[[route]]\npath = \"/rerank\"\nclass = \"embed\"\nupstream = \"gpu1\"\n";
    let loaded = file(&text).unwrap();
    let [tts, rerank] = &loaded.config.routes[..] else { panic!("{:?}", loaded.config.routes) };
    assert_eq!((tts.path.as_str(), tts.class, tts.upgrade), ("/tts/v1/{rest}", Scope::Infer, true));
    assert_eq!((rerank.path.as_str(), rerank.class, rerank.upgrade), ("/rerank", Scope::Embed, false));
    let shown = to_toml(&loaded, false);
    assert!(
        shown.contains("[[route]]\npath = \"/rerank\"\nclass = \"embed\"\nupstream = \"gpu1\"\n"),
        "{shown}"
    );
    let again = load(Said { file: Some(&shown), ..Said::default() }).unwrap();
    assert!(changes(&loaded, &again).is_empty(), "{shown}");
    let other = file(&route("")).unwrap();
    let told: Vec<String> = changes(&loaded, &other).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["route is another"]);
    assert!(!changes(&loaded, &other)[0].at_start, "in force after a reload");
}

#[test]
fn what_is_missing_or_strange_is_told_with_its_cure() {
    for (tables, told) in [
        ("[[route]]\nclass = \"infer\"\nupstream = \"gpu1\"\n", "a route without path"),
        ("[[route]]\npath = \"/a\"\nupstream = \"gpu1\"\n", "a route without class"),
        ("[[route]]\npath = \"/a\"\nclass = \"read\"\n", "a route without upstream"),
        ("[[route]]\npath = \"/api/x\"\nclass = \"read\"\nupstream = \"gpu1\"\n", "\"/api/x\" is built in"),
        ("[[route]]\npath = \"/a\"\nclass = \"cloud\"\nupstream = \"gpu1\"\n", "unknown class \"cloud\""),
        (
            "[[route]]\npath = \"/a\"\nclass = \"read\"\nupstream = \"gpu2\"\n",
            "no upstream has the name \"gpu2\"",
        ),
        (&route("upgrade = \"yes\"\n"), "upgrade wants true or false"),
        (&route("websocket = true\n"), "unknown setting \"websocket\" of a route"),
        (&route("upgarde = true\n"), "did you mean \"upgrade\"?"),
        (&(route("") + &route("")), "there is a route for /tts/v1/{rest} at herdgate.toml:4:1 already"),
        ("route = 5\n", "unknown setting \"route\" of an upstream"),
    ] {
        let problem = problem(tables);
        assert!(problem.contains(told), "{tables}: {problem}");
        assert!(problem.contains("hint: "), "{problem}");
    }
    let number = problem("[[route]]\npath = 5\nclass = \"read\"\nupstream = \"gpu1\"\n");
    assert!(number.contains("wants a path between quotes, not a number"), "{number}");
    let stray = load(Said { file: Some("route = 5\n"), ..Said::default() }).unwrap_err();
    assert!(stray[0].contains("routes stand in [[route]], one each"), "{stray:?}");
    let unnamed = load(Said { file: Some(&route("")), ..Said::default() }).unwrap_err();
    assert!(unnamed[0].contains("give the upstream its name"), "{unnamed:?}");
    let many: String = (0..65).map(|n| route("").replace("v1", &format!("v{n}"))).collect();
    assert!(problem(&many).contains("more than 64 routes"));
}
