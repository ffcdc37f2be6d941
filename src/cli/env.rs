//! `lameduck env`: the table of variables, from the code.

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use super::{EnvArgs, EnvFormat};
use crate::config::vars::{self, Fallback, Var};

/// Narrower than this, wrapping would give one word per line.
const NARROWEST_MEANING: usize = 30;

pub(super) fn run(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match args.format {
        EnvFormat::Json => writeln!(out, "{}", json()?)?,
        EnvFormat::Markdown => out.write_all(vars::markdown_table().as_bytes())?,
        EnvFormat::Text => write_text(&mut out, terminal_width())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The width of the terminal that is written to, if it is one.
fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col.into())
}

fn json() -> serde_json::Result<String> {
    let object = |var: &Var| {
        let default = match var.default {
            Fallback::Depends(_) | Fallback::Off => None,
            Fallback::Value(value) => Some(value),
        };
        serde_json::json!({
            "name": var.name,
            "default": default,
            "meaning": plain(var.meaning),
            "secret": var.secret,
        })
    };
    serde_json::to_string_pretty(&vars::ALL.iter().map(object).collect::<Vec<_>>())
}

/// Three aligned columns; on a terminal of `width` the last one is wrapped within itself.
fn write_text(out: &mut impl Write, width: Option<usize>) -> io::Result<()> {
    let widest = |column: fn(&Var) -> String| {
        vars::ALL.iter().map(|var| column(var).chars().count()).max().unwrap_or_default()
    };
    let (names, defaults) = (widest(|var| var.name.to_owned()), widest(default));
    let indent = names + defaults + 4;
    let room =
        width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(NARROWEST_MEANING));
    for var in vars::ALL {
        let mut lines = wrap(&plain(var.meaning), room).into_iter();
        let first = lines.next().unwrap_or_default();
        writeln!(out, "{:names$}  {:defaults$}  {first}", var.name, default(var))?;
        for line in lines {
            writeln!(out, "{:indent$}{line}", "")?;
        }
    }
    Ok(())
}

fn default(var: &Var) -> String {
    plain(&var.default.markdown())
}

fn plain(markdown: &str) -> String {
    markdown.replace('`', "")
}

/// Breaks `text` between words into lines of at most `room` characters, where words allow it.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_line_per_variable_for_grep() {
        let mut out = Vec::new();
        write_text(&mut out, None).unwrap();
        let text = String::from_utf8(out).unwrap();
        let names: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names, vars::ALL.iter().map(|var| var.name).collect::<Vec<_>>());
        assert!(!text.contains('`'), "{text}");
    }

    #[test]
    fn text_fits_the_terminal() {
        let mut out = Vec::new();
        write_text(&mut out, Some(120)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let longest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 120, "{longest}");
    }

    #[test]
    fn wrapping_loses_no_word() {
        let text = vars::RELEASE.meaning;
        assert_eq!(wrap(text, 30).join(" "), text);
        assert_eq!(wrap("aaaa bb", 3), ["aaaa", "bb"]);
    }

    #[test]
    fn json_holds_every_variable() {
        let parsed: Vec<serde_json::Value> = serde_json::from_str(&json().unwrap()).unwrap();
        assert_eq!(parsed.len(), vars::ALL.len());
        assert_eq!(parsed[0]["name"], "LAMEDUCK_ROUTES");
        assert_eq!(parsed[0]["default"], "15801=8080");
        let token = parsed.iter().find(|var| var["name"] == "LAMEDUCK_HOOK_TOKEN").unwrap();
        assert_eq!((&token["default"], &token["secret"]), (&serde_json::Value::Null, &true.into()));
    }
}
