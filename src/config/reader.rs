//! Pure. Reads one variable after the other, and remembers what was wrong and what took effect.
//!
//! Not here: which variables there are ([`super::vars`]) and what they mean together ([`super::load`]).

use std::time::Duration;

use super::{
    Effective,
    issues::{Issues, Problem, shown},
    parse,
    source::Vars,
    vars::{Fallback, Var},
};

/// Reads variables, and remembers what was wrong and what was right.
pub(super) struct Reader<'a> {
    pub(super) vars: &'a dyn Vars,
    pub(super) issues: Issues,
    pub(super) effective: Vec<Effective>,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) const fn new(vars: &'a dyn Vars) -> Self {
        Self { vars, issues: Issues::none(), effective: Vec::new() }
    }

    /// What was set, trimmed; nothing if that is empty.
    pub(super) fn given(&self, var: &Var) -> Option<String> {
        let text = self.vars.get(var.name)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(super) fn optional<T>(
        &mut self,
        var: &Var,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<Option<T>> {
        let given = self.given(var);
        let text = given.clone().or_else(|| match var.default {
            Fallback::Depends(_) | Fallback::Off => None,
            Fallback::Value(value) => Some(value.to_owned()),
        });
        self.remember(var, given);
        match text.map(|text| (parse(&text), text)) {
            None => Some(None),
            Some((Ok(value), _)) => Some(Some(value)),
            Some((Err(problem), text)) => {
                self.issues.add(var, &text, problem);
                None
            }
        }
    }

    pub(super) fn value<T>(
        &mut self,
        var: &Var,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        self.optional(var, parse)?
    }

    pub(super) fn duration(&mut self, var: &Var, least: Duration) -> Option<Duration> {
        self.value(var, |text| parse::duration(text, least))
    }

    /// A time limit that may be off, by being unset or zero.
    pub(super) fn limit(&mut self, var: &Var) -> Option<Option<Duration>> {
        let limit = self.optional(var, |text| parse::duration(text, Duration::ZERO))?;
        Some(limit.filter(|limit| !limit.is_zero()))
    }

    pub(super) fn list<T>(
        &mut self,
        var: &Var,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let (items, sound) = self.sound_items(var, parse);
        sound.then_some(items)
    }

    /// The items of a list that are right, and whether all are.
    pub(super) fn sound_items<T>(
        &mut self,
        var: &Var,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> (Vec<T>, bool) {
        let mut problems = Vec::new();
        let items = self.optional(var, |text| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let parsed = items.map(parse).collect::<Vec<_>>();
            Ok(parsed
                .into_iter()
                .filter_map(|item| item.map_err(|problem| problems.push(problem)).ok())
                .collect())
        });
        let given = self.shown_or_default(var);
        let sound = problems.is_empty();
        problems.into_iter().for_each(|problem| self.issues.add(var, &given, problem));
        (items.flatten().unwrap_or_default(), sound)
    }

    pub(super) fn auto<T: std::fmt::Display>(
        &mut self,
        var: &Var,
        auto: T,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        let number =
            self.value(var, |text| if text == "auto" { Ok(None) } else { parse(text).map(Some) })?;
        if let Some(last) = self.effective.last_mut().filter(|_| number.is_none()) {
            last.value = format!("auto ({auto})");
        }
        Some(number.unwrap_or(auto))
    }

    pub(super) fn remember(&mut self, var: &Var, given: Option<String>) {
        let (value, is_default) = match (given, var.default) {
            (Some(given), _) => (shown(var, &given), false),
            (None, Fallback::Depends(words)) => (words.replace('`', ""), true),
            (None, Fallback::Off) => (String::new(), true),
            (None, Fallback::Value(value)) => (value.to_owned(), true),
        };
        self.effective.push(Effective { name: var.name, value, is_default });
    }

    pub(super) fn shown_or_default(&self, var: &Var) -> String {
        let remembered = self.effective.iter().find(|effective| effective.name == var.name);
        remembered.map(|effective| effective.value.clone()).unwrap_or_default()
    }
}
