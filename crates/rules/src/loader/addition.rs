//! What is added to the outputs of rules from outside of their files (Falco's `append_output`).

use tw_model::field::{FIELDS, FieldFlag};

use super::rule::RuleDef;
use crate::diagnostic::{Problem, Severity};
use crate::output::Template;
use crate::text::{Files, Text, place};

/// A field beside those that an output names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraField {
    /// A field under its own name and with its type, such as `proc.aexepath[2]`.
    Field(String),
    /// An output such as `%proc.name/%proc.pid` under a name, as a text.
    Format {
        /// The name.
        key: String,
        /// The output.
        format: String,
    },
}

/// Something to add to the outputs of rules. Rules must fit all of `rule`, `source` and `tags` that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputAddition {
    /// Only the rule of this name.
    pub rule: Option<String>,
    /// Only rules of this source.
    pub source: Option<String>,
    /// Only rules that have all of these tags.
    pub tags: Vec<String>,
    /// Text to put behind the output, in the language of outputs.
    pub extra_output: String,
    /// Fields to show beside those that the output names.
    pub extra_fields: Vec<ExtraField>,
    /// Also add the fields that are good to know of any event: those of the container and its pod.
    pub suggested_output: bool,
}

/// An addition that was checked.
pub(super) struct Addition {
    wanted: OutputAddition,
    output: Option<Text>,
    /// Key, format, and whether the value keeps its type.
    fields: Vec<(String, Text, bool)>,
}

impl Addition {
    /// Checks an addition, number `index`. What is wrong becomes a problem and is left out.
    pub fn new(wanted: OutputAddition, index: usize, files: &mut Files, problems: &mut Vec<Problem>) -> Self {
        let mut checked = |part: &str, text: &str| {
            let file = files.add(format!("append_output[{index}].{part}"), text.to_owned());
            let text = Text::of_scalar(text, text, &place(file, 0..text.len()));
            let mut found = Vec::new();
            Template::compile(&text, &mut found);
            let broken = found.iter().any(|problem| problem.severity == Severity::Error);
            problems.append(&mut found);
            (!broken).then_some(text)
        };
        let mut output = (!wanted.extra_output.trim().is_empty())
            .then(|| checked("extra_output", wanted.extra_output.trim()))
            .flatten();
        if wanted.suggested_output
            && let Some(suggested) = checked("suggested_output", &suggested())
        {
            match &mut output {
                Some(output) => output.append(&suggested),
                None => output = Some(suggested),
            }
        }
        let mut fields = Vec::with_capacity(wanted.extra_fields.len());
        for (i, field) in wanted.extra_fields.iter().enumerate() {
            let part = format!("extra_fields[{i}]");
            let (key, text, typed) = match field {
                ExtraField::Field(name) => (name, checked(&part, &format!("%{name}")), true),
                ExtraField::Format { key, format } => (key, checked(&part, format), false),
            };
            fields.extend(text.map(|text| (key.clone(), text, typed)));
        }
        Self { wanted, output, fields }
    }

    fn fits(&self, rule: &RuleDef) -> bool {
        self.wanted.rule.as_ref().is_none_or(|name| *name == rule.name)
            && self.wanted.source.as_ref().is_none_or(|source| *source == rule.source)
            && self.wanted.tags.iter().all(|tag| rule.tags.contains(tag))
    }
}

/// ` container_id=%container.id` and its like, for all suggested fields.
fn suggested() -> String {
    let fields = FIELDS.iter().filter(|field| field.is(FieldFlag::Suggested));
    fields.map(|field| format!("{}=%{}", field.name.replace('.', "_"), field.name)).collect::<Vec<_>>().join(" ")
}

/// The output of a rule with all additions that fit.
pub(super) fn template(rule: &RuleDef, additions: &[Addition], problems: &mut Vec<Problem>) -> Template {
    let mut output = rule.output.clone();
    let fitting = || additions.iter().filter(|addition| addition.fits(rule));
    fitting().filter_map(|addition| addition.output.as_ref()).for_each(|text| output.append(text));
    let mut template = Template::compile(&output, problems);
    for (key, text, typed) in fitting().flat_map(|addition| &addition.fields) {
        template.add_field(key, Template::compile(text, &mut Vec::new()), *typed);
    }
    template
}
