//! Any balancing method on the gradients of several objectives, from standard input to standard output, as JSON.
//!
//! ```text
//! echo '{"jacobian": [[1, 0], [0, 2]]}' | cargo run --example combine -- --method mgda
//! {"weights":[0.8,0.2],"direction":[0.8,0.4]}
//! echo '{"jacobian": [[1, 0], [-1, 2]]}' | cargo run --example combine -- --method cagrad --set c=0.4
//! ```
//!
//! `jacobian` holds one gradient a row; `gramian` their dot products instead, and then there is no direction to print. `losses` and
//! `preferences` may stand beside them, one value for each objective; both are 1 by default. Objectives are named `0`, `1`, … in
//! parameters. `mgda`, `upgrad` and `dualproj` are solved from the rows to the last digit; `mgda` is the plain shortest combination unless
//! `normalize` says otherwise. GradDrop, which picks signs, has no weights to print. Wrong input is answered by one line and exit code 2.

use std::io::Read;
use std::process::ExitCode;

use paretune_optim::solve::{self, Combination};
use paretune_optim::{BalanceConfig, Gramian, Jacobian, Method, MethodKind, Preference, Setting, Signals};
use serde_json::{Value, json};

/// Beyond this many rows exact arithmetic takes its time.
const EXACT_ROWS: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments, &mut std::io::stdin()) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("combine: {}", message.replace('\n', " "));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String], input: &mut impl Read) -> Result<String, String> {
    let config = configuration(arguments)?;
    let mut text = String::new();
    input.read_to_string(&mut text).map_err(|e| format!("cannot read standard input: {e}"))?;
    let Input { jacobian, gramian, losses, preferences } = Input::parse(&text)?;
    let objectives: Vec<Preference> =
        preferences.iter().enumerate().map(|(i, p)| Preference::new(i.to_string(), *p)).collect();
    let observed = vec![1; objectives.len()];
    let signals = Signals { losses: &losses, observed: &observed, gramian: gramian.as_ref() };
    let answer = match jacobian {
        Some(jacobian) => from_rows(&config, &jacobian, &objectives, signals),
        None => {
            from_gramian(&config, &objectives, signals).map(|weights| Combination { weights, direction: Vec::new() })
        }
    };
    let Combination { weights, direction } = answer.map_err(|e| e.to_string())?;
    // Written by hand so that the weights come first.
    Ok(match gramian {
        None => format!("{{\"weights\":{},\"direction\":{}}}", json!(weights), json!(direction)),
        Some(_) => format!("{{\"weights\":{}}}", json!(weights)),
    })
}

fn from_rows(
    config: &BalanceConfig,
    jacobian: &Jacobian,
    objectives: &[Preference],
    signals: Signals<'_>,
) -> paretune_optim::Result<Combination> {
    let shares = shares(objectives);
    if jacobian.size() <= EXACT_ROWS {
        // Builds the method as well, so that wrong preferences and parameters are refused in the same words.
        config.build_rows(objectives)?;
        match config.method {
            Method::Mgda if plain(config) => return Ok(solve::min_norm(jacobian)),
            Method::DualProj => return solve::project_dual_cone(jacobian, &shares),
            Method::UpGrad => return solve::upgrad(jacobian, &shares),
            _ => {}
        }
    }
    if config.kind() == MethodKind::Gramian {
        let gramian = jacobian.gramian()?;
        let weights = from_gramian(config, objectives, Signals { gramian: Some(&gramian), ..signals })?;
        return Ok(Combination { direction: jacobian.combine(&weights), weights });
    }
    config.build_rows(objectives)?.combine(jacobian, &signals)
}

fn from_gramian(
    config: &BalanceConfig,
    objectives: &[Preference],
    signals: Signals<'_>,
) -> paretune_optim::Result<Vec<f64>> {
    let mut method = config.build(objectives)?;
    match signals.gramian {
        Some(gramian) if config.method == Method::Mgda && plain(config) => Ok(paretune_optim::min_norm(gramian)),
        Some(gramian) => match config.published(gramian, &shares(objectives))? {
            Some(weights) => Ok(weights),
            None => method.weights(&signals),
        },
        None => method.weights(&signals),
    }
}

/// MGDA as in the textbook.
fn plain(config: &BalanceConfig) -> bool {
    config.parameters.get("normalize") == Some(&Setting::from("none"))
}

fn shares(objectives: &[Preference]) -> Vec<f64> {
    let total: f64 = objectives.iter().map(|p| p.weight).sum();
    objectives.iter().map(|p| p.weight / total).collect()
}

fn configuration(arguments: &[String]) -> Result<BalanceConfig, String> {
    let usage = "usage: combine [--method NAME] [--set KEY=VALUE]... < jacobian.json";
    let mut method = Method::Mgda;
    let mut settings = Vec::new();
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or(usage)?;
        match flag.as_str() {
            "--method" => method = value.parse().map_err(|e: paretune_optim::OptimError| e.to_string())?,
            "--set" => settings.push(value.split_once('=').ok_or("--set takes KEY=VALUE, as in c=0.4")?),
            _ => return Err(usage.into()),
        }
    }
    let mut config = BalanceConfig::new(method);
    if method == Method::Mgda {
        config = config.with("normalize", "none");
    }
    for (key, value) in settings {
        // A bare word is a string; everything else is JSON.
        let value = serde_json::from_str::<Setting>(value).unwrap_or_else(|_| Setting::from(value));
        match key.split_once('.') {
            None => config = config.with(key, value),
            Some((table, entry)) => {
                let slot = config.parameters.entry(table.to_string()).or_insert(Setting::Table(Default::default()));
                match slot {
                    Setting::Table(entries) => drop(entries.insert(entry.to_string(), value)),
                    _ => return Err(format!("{table} is set both as a value and as a table")),
                }
            }
        }
    }
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

struct Input {
    /// Exactly one of these two is there.
    jacobian: Option<Jacobian>,
    gramian: Option<Gramian>,
    losses: Vec<f64>,
    preferences: Vec<f64>,
}

impl Input {
    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text)
            // Some writers put NaN and Infinity where JSON has no word for them; the objective can still be named.
            .or_else(|e| {
                let nulls = text.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null");
                serde_json::from_str(&nulls).map_err(|_| e)
            })
            .map_err(|e| format!("not JSON: {e}"))?;
        let fields = value.as_object().ok_or("expected an object with \"jacobian\" or \"gramian\"")?;
        if let Some(name) =
            fields.keys().find(|k| !["jacobian", "gramian", "losses", "preferences"].contains(&k.as_str()))
        {
            return Err(format!(
                "unknown field \"{name}\": use jacobian or gramian, and losses and preferences if needed"
            ));
        }
        let (jacobian, gramian) = match (fields.get("jacobian"), fields.get("gramian")) {
            (Some(rows), None) => (Some(Jacobian::new(matrix("jacobian", rows)?).map_err(|e| e.to_string())?), None),
            (None, Some(products)) => {
                (None, Some(Gramian::from_matrix(&matrix("gramian", products)?).map_err(|e| e.to_string())?))
            }
            _ => return Err("expected exactly one of \"jacobian\" and \"gramian\"".into()),
        };
        let size = jacobian.as_ref().map_or(0, Jacobian::size) + gramian.as_ref().map_or(0, Gramian::size);
        let vector = |name: &str| match fields.get(name) {
            None => Ok(vec![1.0; size]),
            Some(value) => match numbers(name, value)? {
                values if values.len() == size => Ok(values),
                values => Err(format!("\"{name}\" holds {} values for {size} objectives", values.len())),
            },
        };
        Ok(Self { losses: vector("losses")?, preferences: vector("preferences")?, jacobian, gramian })
    }
}

fn matrix(name: &str, value: &Value) -> Result<Vec<Vec<f64>>, String> {
    let rows = value.as_array().ok_or_else(|| format!("\"{name}\" must be a list of lists of numbers"))?;
    rows.iter().map(|row| numbers(name, row)).collect()
}

/// `null` stands for a value that is not finite, which is refused by name later.
fn numbers(name: &str, value: &Value) -> Result<Vec<f64>, String> {
    let read = serde_json::from_value::<Vec<Option<f64>>>(value.clone());
    let values = read.map_err(|e| format!("\"{name}\" must hold lists of numbers: {e}"))?;
    Ok(values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

#[cfg(test)]
mod tests {
    use super::run;

    fn answer(arguments: &str, input: &str) -> Result<String, String> {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_string).collect();
        run(&arguments, &mut input.as_bytes())
    }

    #[test]
    fn answers_with_weights_and_direction() {
        let jacobian = r#"{"jacobian": [[1, 0], [0, 2]]}"#;
        for (method, expected) in [
            ("sum", r#"{"weights":[1.0,1.0],"direction":[1.0,2.0]}"#),
            ("mean", r#"{"weights":[0.5,0.5],"direction":[0.5,1.0]}"#),
            ("mgda", r#"{"weights":[0.8,0.2],"direction":[0.8,0.4]}"#),
            ("upgrad", r#"{"weights":[0.5,0.5],"direction":[0.5,1.0]}"#),
            ("pcgrad", r#"{"weights":[1.0,1.0],"direction":[1.0,2.0]}"#),
            ("constant --set weights=[3,0.5]", r#"{"weights":[3.0,0.5],"direction":[3.0,1.0]}"#),
            ("lexicographic --set order=[\"1\",\"0\"]", r#"{"weights":[1.0,1.0],"direction":[1.0,2.0]}"#),
            ("epsilon-constraint --set bounds.1=0.5 --set rate=1", r#"{"weights":[1.0,1.0],"direction":[1.0,2.0]}"#),
        ] {
            assert_eq!(answer(&format!("--method {method}"), jacobian).unwrap(), expected, "{method}");
        }
        assert_eq!(answer("", r#"{"gramian": [[1, 0], [0, 1]]}"#).unwrap(), r#"{"weights":[0.5,0.5]}"#);
        let wanted = r#"{"gramian": [[1, 0], [0, 1]], "preferences": [1, 3], "losses": [2, 1]}"#;
        assert_eq!(answer("--method mean", wanted).unwrap(), r#"{"weights":[0.25,0.75]}"#);
        assert_eq!(answer("--method chebyshev", wanted).unwrap(), r#"{"weights":[0.0,0.75]}"#);
    }

    #[test]
    fn wrong_input_is_answered_with_one_line() {
        for (input, part) in [
            ("", "not JSON"),
            ("[1]", "expected an object"),
            ("{}", "exactly one of"),
            (r#"{"jacobian": [[1, 2], [3]]}"#, "row 1"),
            (r#"{"jacobian": []}"#, "no objectives"),
            (r#"{"jacobian": [[1], [NaN]]}"#, "objective 1 is NaN"),
            (r#"{"jacobian": [["a"]]}"#, "numbers"),
            (r#"{"jacobian": [[1]], "losses": [1, 2]}"#, "2 values for 1 objectives"),
            (r#"{"jacobian": [[1]], "loss": [1]}"#, "unknown field \"loss\""),
            (r#"{"gramian": [[1, 2], [2, 1]]}"#, "product of the two norms"),
        ] {
            let error = answer("--method mgda", input).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{input}: {error}");
        }
        let one = r#"{"jacobian": [[1]]}"#;
        for (arguments, part) in [
            ("--method magic", "mgda, sum, mean"),
            ("--method cagrad --set alpha=1", "its parameters are c"),
            ("--method cagrad --set c=-1", "c = -1 is not allowed"),
            ("--method cagrad --set c", "KEY=VALUE"),
            ("--method", "usage"),
            ("--method pcd --set primary=x", "use one of 0"),
        ] {
            assert!(answer(arguments, one).unwrap_err().contains(part), "{arguments}");
        }
        let error = answer("--method graddrop", r#"{"gramian": [[1]]}"#).unwrap_err();
        assert!(error.contains("needs the gradients themselves"), "{error}");
    }
}
