//! Weights for the gradients of several objectives, from standard input to standard output, as JSON.
//!
//! ```text
//! echo '{"jacobian": [[1, 0], [0, 2]]}' | cargo run --example combine -- --method mgda
//! {"weights":[0.8,0.2],"direction":[0.8,0.4]}
//! ```
//!
//! `jacobian` holds one gradient a row; `gramian` their dot products instead, and then there is no direction to print.
//! Methods: `mgda` (the shortest convex combination), `mean`, `sum`. Wrong input is answered by one line and exit code 2.

use std::io::Read;
use std::process::ExitCode;

use paretune_optim::{Gramian, min_norm};
use serde_json::{Value, json};

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
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let method = match arguments[..] {
        [] => "mgda",
        ["--method", method] => method,
        _ => return Err("usage: combine [--method mgda|mean|sum] < jacobian.json".into()),
    };
    let mut text = String::new();
    input.read_to_string(&mut text).map_err(|e| format!("cannot read standard input: {e}"))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| format!("not JSON: {e}"))?;
    let fields = value.as_object().ok_or("expected an object with \"jacobian\" or \"gramian\"")?;
    let (rows, gramian) = match (fields.get("jacobian"), fields.get("gramian"), fields.len()) {
        (Some(jacobian), None, 1) => {
            let rows = matrix("jacobian", jacobian)?;
            let gramian = Gramian::from_rows(&rows).map_err(|e| e.to_string())?;
            (Some(rows), gramian)
        }
        (None, Some(products), 1) => {
            (None, Gramian::from_matrix(&matrix("gramian", products)?).map_err(|e| e.to_string())?)
        }
        _ => return Err("expected exactly one of \"jacobian\" and \"gramian\"".into()),
    };
    let m = gramian.size();
    let weights = match method {
        "mgda" => min_norm(&gramian),
        "mean" => vec![1.0 / m as f64; m],
        "sum" => vec![1.0; m],
        other => {
            return Err(format!("unknown method \"{other}\": use one of mgda, mean, sum"));
        }
    };
    let direction = rows.map(|rows| -> Vec<f64> {
        (0..rows[0].len()).map(|k| rows.iter().zip(&weights).map(|(row, w)| w * row[k]).sum()).collect()
    });
    Ok(match direction {
        // Written by hand so that the weights come first.
        Some(direction) => format!("{{\"weights\":{},\"direction\":{}}}", json!(weights), json!(direction)),
        None => format!("{{\"weights\":{}}}", json!(weights)),
    })
}

fn matrix(name: &str, value: &Value) -> Result<Vec<Vec<f64>>, String> {
    serde_json::from_value(value.clone()).map_err(|e| format!("\"{name}\" must be a list of lists of numbers: {e}"))
}

#[cfg(test)]
mod tests {
    use super::run;

    fn answer(method: &str, input: &str) -> Result<String, String> {
        run(&["--method".to_string(), method.to_string()], &mut input.as_bytes())
    }

    #[test]
    fn answers_with_weights_and_direction() {
        let jacobian = r#"{"jacobian": [[1, 0], [0, 2]]}"#;
        assert_eq!(answer("sum", jacobian).unwrap(), r#"{"weights":[1.0,1.0],"direction":[1.0,2.0]}"#);
        assert_eq!(answer("mean", jacobian).unwrap(), r#"{"weights":[0.5,0.5],"direction":[0.5,1.0]}"#);
        assert_eq!(answer("mgda", jacobian).unwrap(), r#"{"weights":[0.8,0.2],"direction":[0.8,0.4]}"#);
        assert_eq!(answer("mgda", r#"{"gramian": [[1, 0], [0, 1]]}"#).unwrap(), r#"{"weights":[0.5,0.5]}"#);
    }

    #[test]
    fn wrong_input_is_answered_with_one_line() {
        for (input, part) in [
            ("", "not JSON"),
            ("[1]", "expected an object"),
            ("{}", "exactly one of"),
            (r#"{"jacobian": [[1, 2], [3]]}"#, "row 1"),
            (r#"{"jacobian": []}"#, "no objectives"),
            (r#"{"jacobian": [[null]]}"#, "numbers"),
            (r#"{"jacobian": [[1e200]]}"#, "objective 0"),
            (r#"{"gramian": [[1, 2], [2, 1]]}"#, "product of the two norms"),
        ] {
            let error = answer("mgda", input).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{input}: {error}");
        }
        assert!(answer("magic", r#"{"gramian": [[1]]}"#).unwrap_err().contains("mgda, mean, sum"));
    }
}
