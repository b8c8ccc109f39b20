//! `herdgate models`: what the upstreams have, and with `--outdated` whether the registry has something newer.

mod registry;

use crate::progress::{bytes, plain};
use crate::reach::{self, Reach, ReachArgs};
use anyhow::bail;
use clap::Args;
use gate_config::Locations;
use http::Method;
use registry::Newer;
use serde_json::{Value, json};
use std::io::Write;

/// Digits of a digest that are shown, as Ollama shows them.
const DIGITS: usize = 12;

/// `herdgate models …`
#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// Only this upstream: its name, URL or host
    #[arg(long, value_name = "UPSTREAM")]
    on: Option<String>,
    /// Ask each model's registry whether it has a newer one
    #[arg(long)]
    outdated: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

/// Lists them.
pub(crate) fn run(args: &ModelsArgs, places: &Locations, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let done =
        Reach::of(&args.reach, places, talk).and_then(|reach| reach::block_on(list(args, &reach, out, talk)));
    reach::finish(done, talk)
}

/// A model somewhere.
struct Row {
    name: String,
    size: Option<u64>,
    digest: String,
    loaded: bool,
    context: Option<u64>,
    at: String,
    /// It only stands for one on another host.
    is_stub: bool,
    newer: Option<Newer>,
}

async fn list(
    args: &ModelsArgs,
    reach: &Reach,
    out: &mut dyn Write,
    talk: &mut dyn Write,
) -> anyhow::Result<()> {
    let upstreams = if reach.is_here() {
        let query = args.on.as_ref().map(|on| format!("?on={on}")).unwrap_or_default();
        let path = format!("/v1/models{query}");
        let told = reach.admin(Method::GET, &path, &Value::Null).await?.ok().await?.json().await?;
        told["upstreams"].as_array().cloned().unwrap_or_default()
    } else {
        if args.on.is_some() {
            bail!(
                "from afar the upstreams are one\nhint: leave out --on, or run this on the gate's own machine"
            );
        }
        vec![from_afar(reach).await?]
    };
    let mut rows = rows(&upstreams);
    if args.outdated {
        registry::look(&mut rows).await;
    }
    let text = if args.json { as_json(&rows, &upstreams) } else { table(&rows, args.outdated) };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    tell_rest(&upstreams, &rows, talk)?;
    let failed = upstreams.iter().filter(|one| one["error"].is_string()).count();
    if failed > 0 && failed == upstreams.len() {
        bail!("no upstream told its models");
    }
    Ok(())
}

/// What cannot stand in the table.
fn tell_rest(upstreams: &[Value], rows: &[Row], talk: &mut dyn Write) -> anyhow::Result<()> {
    for one in upstreams {
        let at = plain(one["upstream"].as_str().unwrap_or_default());
        if let Some(error) = one["error"].as_str() {
            writeln!(talk, "{at}: {}", reach::without_its_name(&plain(error), &at))?;
        }
        for pull in one["pulling"].as_array().into_iter().flatten() {
            let text = |name: &str| plain(pull[name].as_str().unwrap_or_default());
            writeln!(talk, "{} at {at}: {}", text("model"), text("state"))?;
        }
    }
    for row in rows {
        if let Some(Newer::Unknown(why)) = &row.newer {
            writeln!(talk, "whether {} is outdated cannot be told: {why}", row.name)?;
        }
    }
    let is_told = |one: &Value| {
        one["error"].is_string() || one["pulling"].as_array().is_some_and(|all| !all.is_empty())
    };
    if rows.is_empty() && !upstreams.iter().any(is_told) {
        writeln!(talk, "No models. Get one: herdgate pull NAME")?;
    }
    Ok(())
}

/// The listings that every client may ask for, in the shape of the admin socket.
async fn from_afar(reach: &Reach) -> anyhow::Result<Value> {
    let tags = reach.gate(Method::GET, "/api/tags", &Value::Null).await?.ok().await?.json().await?;
    let loaded = reach.gate(Method::GET, "/api/ps", &Value::Null).await?.ok().await?.json().await?;
    let list = |value: &Value| value["models"].as_array().cloned().unwrap_or_default();
    let loaded = list(&loaded);
    let models: Vec<Value> = list(&tags)
        .iter()
        .map(|model| {
            let in_memory = loaded.iter().find(|one| one["name"] == model["name"]);
            json!({
                "name": model["name"], "size": model["size"], "digest": model["digest"],
                "remote_host": model["remote_host"],
                "loaded": in_memory.is_some(), "context": in_memory.map(|one| one["context_length"].clone()),
            })
        })
        .collect();
    Ok(json!({"upstream": reach.name(), "models": models}))
}

fn rows(upstreams: &[Value]) -> Vec<Row> {
    let mut rows: Vec<Row> = upstreams
        .iter()
        .flat_map(|one| {
            let at = plain(one["upstream"].as_str().unwrap_or_default());
            one["models"].as_array().into_iter().flatten().map(move |model| Row {
                name: plain(model["name"].as_str().unwrap_or_default()),
                size: model["size"].as_u64(),
                digest: plain(model["digest"].as_str().unwrap_or_default()),
                loaded: model["loaded"].as_bool().unwrap_or(false),
                context: model["context"].as_u64(),
                at: at.clone(),
                is_stub: model["remote_host"].as_str().is_some_and(|host| !host.is_empty()),
                newer: None,
            })
        })
        .collect();
    rows.sort_by(|one, other| (&one.name, &one.at).cmp(&(&other.name, &other.at)));
    rows
}

fn table(rows: &[Row], has_newer: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut lines =
        vec![["NAME", "SIZE", "DIGEST", "LOADED", "CONTEXT", "NEWER", "WHERE"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let newer = match &row.newer {
            Some(Newer::Yes) => "yes",
            Some(Newer::No) => "no",
            Some(Newer::Unknown(_)) => "?",
            None => "-",
        };
        [
            row.name.clone(),
            if row.is_stub { "elsewhere".to_owned() } else { row.size.map_or("?".to_owned(), bytes) },
            row.digest.chars().take(DIGITS).collect(),
            if row.loaded { "yes" } else { "no" }.to_owned(),
            row.context.map_or("-".to_owned(), |context| context.to_string()),
            newer.to_owned(),
            row.at.clone(),
        ]
    }));
    let columns: Vec<usize> = (0..7).filter(|column| has_newer || *column != 5).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = columns.iter().map(|column| width(*column)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = columns.iter().zip(&widths).map(|(column, width)| format!("{:width$}", line[*column]));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn as_json(rows: &[Row], upstreams: &[Value]) -> String {
    let models: Vec<Value> = rows
        .iter()
        .map(|row| {
            let newer = match &row.newer {
                Some(Newer::Yes) => json!(true),
                Some(Newer::No) => json!(false),
                Some(Newer::Unknown(_)) | None => Value::Null,
            };
            json!({
                "name": row.name, "size": row.size, "digest": row.digest, "loaded": row.loaded,
                "context": row.context, "upstream": row.at, "elsewhere": row.is_stub, "outdated": newer,
            })
        })
        .collect();
    let pulling: Vec<Value> = upstreams
        .iter()
        .flat_map(|one| {
            let at = &one["upstream"];
            one["pulling"]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |pull| json!({"model": pull["model"], "state": pull["state"], "upstream": at}))
        })
        .collect();
    format!("{}\n", json!({"models": models, "pulling": pulling}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_model_of_each_upstream() {
        let upstreams = [
            json!({"upstream": "http://b", "models": [
                {"name": "qwen3:8b", "size": 5_200_000_000_u64, "digest": "0123456789abcdef", "loaded": true, "context": 4096},
                {"name": "x:cloud", "size": 300, "digest": "ff", "remote_host": "https://ollama.com", "loaded": false},
            ]}),
            json!({"upstream": "http://a", "models": [{"name": "qwen3:8b"}]}),
        ];
        let shown = table(&rows(&upstreams), false);
        let expected = "\
NAME      SIZE       DIGEST        LOADED  CONTEXT  WHERE
qwen3:8b  ?                        no      -        http://a
qwen3:8b  5.2 GB     0123456789ab  yes     4096     http://b
x:cloud   elsewhere  ff            no      -        http://b
";
        assert_eq!(shown, expected);
        let mut rows = rows(&upstreams);
        rows[1].newer = Some(Newer::Yes);
        assert!(table(&rows, true).contains("  yes    http://b\n"));
        assert_eq!(table(&[], true), "");
    }
}
