//! Reading files of rules: what is wrong is named with its line, and what is right is used.

use super::document::{Document, documents};
use super::needs::{Group, Needs};
use super::{Compiled, FILE_BYTES_MAX, REGEX_BYTES_MAX, REGEXES_MAX, RULES_MAX, SigmaRules, VALUES_MAX};
use crate::category::{Category, Product};
use crate::finding::{FindingType, Severity};
use crate::rules::{Place, RuleError, RuleFacts, RuleFile};
use rsigma_eval::Engine;
use rsigma_parser::{
    Detection, DetectionItem, FilterRule, FilterRuleTarget, Level, Modifier, SigmaRule, SigmaValue, parse_sigma_yaml,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rules as they were read.
pub struct Loaded {
    /// Those that can be used.
    pub rules: SigmaRules,
    /// Those that cannot, and why, in the order of the files.
    pub errors: Vec<RuleError>,
    /// How many are about something that events here do not have.
    pub unreachable: usize,
    /// How many were switched off by name.
    pub disabled: usize,
}

/// Where a rule goes.
enum Route {
    To(Category),
    Everywhere,
    Nowhere,
}

struct Reader<'a> {
    loaded: Loaded,
    /// One for each category, which compiles what is about it and knows its filters.
    categories: Vec<Engine>,
    everywhere: Engine,
    disabled: &'a BTreeSet<String>,
    /// Where each id was seen.
    ids: BTreeMap<String, Place>,
    filters: Vec<(Place, FilterRule)>,
    /// What each rule needs, by its number.
    needs: Vec<Option<Needs>>,
    regexes: usize,
}

impl SigmaRules {
    /// Reads files. `disabled` are the ids of rules that are passed over.
    #[must_use]
    pub fn read(files: &[RuleFile], disabled: &BTreeSet<String>) -> Loaded {
        let rules = Self { categories: Vec::new(), everywhere: Group::default(), facts: Vec::new() };
        let mut reader = Reader {
            loaded: Loaded { rules, errors: Vec::new(), unreachable: 0, disabled: 0 },
            categories: Category::ALL.iter().map(|_| Engine::new()).collect(),
            everywhere: Engine::new(),
            disabled,
            ids: BTreeMap::new(),
            filters: Vec::new(),
            needs: Vec::new(),
            regexes: 0,
        };
        for file in files {
            reader.file(file);
        }
        reader.filter();
        let needs = &reader.needs;
        reader.loaded.rules.categories = reader.categories.iter().map(|engine| compiled(engine, needs)).collect();
        reader.loaded.rules.everywhere = compiled(&reader.everywhere, needs);
        reader.loaded
    }
}

impl Reader<'_> {
    fn file(&mut self, file: &RuleFile) {
        if file.text.len() > FILE_BYTES_MAX {
            let place = Place { file: Arc::clone(&file.name), line: 1 };
            return self.refuse(place, format!("the file is longer than {FILE_BYTES_MAX} bytes"));
        }
        for document in documents(&file.text) {
            self.document(&file.name, &document);
        }
    }

    fn document(&mut self, file: &Arc<str>, document: &Document<'_>) {
        let place = |line| Place { file: Arc::clone(file), line };
        let here = place(document.title_line());
        let collection = match parse_sigma_yaml(document.text) {
            Ok(collection) => collection,
            Err(error) => {
                let error = error.to_string();
                return self.refuse(place(document.line_of(&error)), error);
            }
        };
        for error in &collection.errors {
            self.refuse(place(document.line_of(error)), error.clone());
        }
        if !collection.correlations.is_empty() {
            self.refuse(here.clone(), "correlations of rules are not evaluated here".to_owned());
        }
        let nothing =
            collection.rules.is_empty() && collection.correlations.is_empty() && collection.filters.is_empty();
        self.filters.extend(collection.filters.into_iter().map(|filter| (here.clone(), filter)));
        if nothing && collection.errors.is_empty() {
            self.refuse(
                here.clone(),
                "this is neither a rule nor a filter; collections by 'action' are not read".to_owned(),
            );
        }
        for rule in collection.rules {
            if let Err(what) = self.rule(rule, here.clone()) {
                self.refuse(place(document.line_of(&what)), what);
            }
        }
    }

    fn rule(&mut self, mut rule: SigmaRule, place: Place) -> Result<(), String> {
        let id = rule.id.clone().unwrap_or_else(|| rule.title.clone());
        if self.disabled.contains(&id) {
            self.loaded.disabled += 1;
            return Ok(());
        }
        let route = route(&rule);
        if matches!(route, Route::Nowhere) {
            self.loaded.unreachable += 1;
            return Ok(());
        }
        if let Some(other) = self.ids.get(&id) {
            return Err(format!("the rule at {other} has this id as well: '{id}'"));
        }
        let number = self.loaded.rules.facts.len();
        if number >= RULES_MAX {
            return Err(format!("there are more than {RULES_MAX} rules"));
        }
        let regexes = check_size(&rule)?;
        if self.regexes + regexes > REGEXES_MAX {
            return Err(format!("there are more than {REGEXES_MAX} regular expressions"));
        }
        let facts = RuleFacts {
            id: id.clone(),
            title: rule.title.clone(),
            description: rule.description.as_deref().unwrap_or_default().trim().to_owned(),
            kind: kind(&rule)?,
            severity: severity(rule.level),
            place: place.clone(),
        };
        // What matched is found again by this number; of its own tags nothing else is needed any more.
        rule.tags = vec![number.to_string()];
        let engine = match route {
            Route::To(category) => self.categories.get_mut(category as usize),
            Route::Everywhere | Route::Nowhere => Some(&mut self.everywhere),
        };
        if let Some(engine) = engine {
            engine.add_rule(&rule).map_err(|error| error.to_string())?;
        }
        self.regexes += regexes;
        self.needs.push(Needs::of(&rule.detection));
        self.loaded.rules.facts.push(Arc::new(facts));
        self.ids.insert(id, place);
        Ok(())
    }

    /// Filters narrow rules down, wherever both were read.
    fn filter(&mut self) {
        for (place, filter) in std::mem::take(&mut self.filters) {
            if let FilterRuleTarget::Specific(names) = &filter.rules {
                let known = |name: &String| {
                    self.ids.contains_key(name)
                        || self.disabled.contains(name)
                        || self.loaded.rules.facts.iter().any(|facts| facts.title == *name)
                };
                if let Some(unknown) = names.iter().find(|name| !known(name)) {
                    self.refuse(place, format!("the filter is for a rule that is not there: {unknown}"));
                    continue;
                }
            }
            let engines = self.categories.iter_mut().chain([&mut self.everywhere]);
            let failed = engines.filter_map(|engine| engine.apply_filter(&filter).err()).next();
            if let Some(error) = failed {
                self.refuse(place, format!("the filter cannot be used: {error}"));
            }
        }
    }

    fn refuse(&mut self, place: Place, what: String) {
        // One line: `regex` draws pictures.
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        self.loaded.errors.push(RuleError { place, what });
    }
}

/// What an engine has compiled, with the number that each rule has in place of its tags.
fn compiled(engine: &Engine, needs: &[Option<Needs>]) -> Group {
    let rules = engine.rules().iter().filter_map(|rule| {
        let number: usize = rule.tags.first()?.parse().ok()?;
        let product = rule.logsource.product.as_deref().and_then(Product::named);
        Some((Compiled { number, product, rule: rule.clone() }, needs.get(number).cloned().flatten()))
    });
    Group::new(rules.collect())
}

fn route(rule: &SigmaRule) -> Route {
    let source = &rule.logsource;
    let product_here = source
        .product
        .as_ref()
        .is_none_or(|name| Product::ALL.iter().any(|product| product.name().eq_ignore_ascii_case(name)));
    if !product_here || source.service.is_some() {
        return Route::Nowhere;
    }
    match &source.category {
        None => Route::Everywhere,
        Some(name) => Category::named(name).map_or(Route::Nowhere, Route::To),
    }
}

/// The type that a tag names. A rule without such a tag is one of somebody's who knows nothing of GuardDuty's types.
fn kind(rule: &SigmaRule) -> Result<FindingType, String> {
    const NAMESPACE: &str = "guardduty.";
    let tag = rule.tags.iter().find_map(|tag| {
        let (namespace, name) = tag.split_at_checked(NAMESPACE.len())?;
        namespace.eq_ignore_ascii_case(NAMESPACE).then_some(name)
    });
    match tag {
        None => Ok(FindingType::RULE_MATCHED),
        Some(name) => FindingType::named(name).map_err(|error| format!("the tag '{name}': {error}")),
    }
}

/// `level` of Sigma. Without one a rule is of the middle.
const fn severity(level: Option<Level>) -> Severity {
    match level {
        Some(Level::Informational) => Severity::Informational,
        Some(Level::Low) => Severity::Low,
        Some(Level::Medium) | None => Severity::Medium,
        Some(Level::High) => Severity::High,
        Some(Level::Critical) => Severity::Critical,
    }
}

/// How many regular expressions a rule has, if it is within the limits.
fn check_size(rule: &SigmaRule) -> Result<usize, String> {
    let (mut values, mut regexes) = (0, 0);
    for detection in rule.detection.named.values() {
        measure(detection, &mut values, &mut regexes)?;
    }
    if values > VALUES_MAX {
        return Err(format!("the rule compares with more than {VALUES_MAX} values"));
    }
    Ok(regexes)
}

fn measure(detection: &Detection, values: &mut usize, regexes: &mut usize) -> Result<(), String> {
    match detection {
        Detection::AllOf(items) => items.iter().try_for_each(|item| measure_item(item, values, regexes)),
        Detection::AnyOf(detections) => detections.iter().try_for_each(|inner| measure(inner, values, regexes)),
        Detection::Keywords(keywords) => {
            *values = values.saturating_add(keywords.len());
            Ok(())
        }
    }
}

fn measure_item(item: &DetectionItem, values: &mut usize, regexes: &mut usize) -> Result<(), String> {
    *values = values.saturating_add(item.values.len());
    if !item.field.has_modifier(Modifier::Re) {
        return Ok(());
    }
    *regexes = regexes.saturating_add(item.values.len());
    for value in &item.values {
        if let SigmaValue::String(pattern) = value
            && pattern.original.len() > REGEX_BYTES_MAX
        {
            let beginning = pattern.original.chars().take(40).collect::<String>();
            return Err(format!("a regular expression is longer than {REGEX_BYTES_MAX} bytes: '{beginning}'"));
        }
    }
    Ok(())
}
