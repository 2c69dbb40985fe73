//! Reading conditions and orders: by descent, one word ahead, with bounds on length and depth.

use super::value::{Held, time};
use super::words::{Word, words};
use super::{Condition, Operand, PROPERTIES, Path, Relation, TextTest};

/// The longest text that is read.
const MAX_TEXT: usize = 8 * 1024;
/// How deep conditions may nest.
const MAX_DEPTH: usize = 64;

/// Reads a condition.
pub(super) fn filter(text: &str) -> Result<Condition, String> {
    let mut reader = Reader::new(text)?;
    let condition = reader.either()?;
    reader.end()?;
    Ok(condition)
}

/// Reads an order.
pub(super) fn order(text: &str) -> Result<Vec<(Path, bool)>, String> {
    let mut reader = Reader::new(text)?;
    let mut order = Vec::new();
    if reader.peek().is_none() {
        return Ok(order);
    }
    loop {
        let path = reader.path("a property")?;
        let falling = match reader.peek() {
            Some(Word::Name("asc")) => {
                reader.next();
                false
            }
            Some(Word::Name("desc")) => {
                reader.next();
                true
            }
            _ => false,
        };
        order.push((path, falling));
        if reader.peek() != Some(Word::Mark(',')) {
            break;
        }
        reader.next();
    }
    reader.end()?;
    Ok(order)
}

struct Reader<'a> {
    words: Vec<(usize, Word<'a>)>,
    at: usize,
    depth: usize,
    /// The name that an item has within `any`.
    item: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("is too long: expected at most {MAX_TEXT} bytes"));
        }
        Ok(Self { words: words(text)?, at: 0, depth: 0, item: None })
    }

    fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.at).map(|(_, word)| word.clone())
    }

    fn next(&mut self) -> Option<Word<'a>> {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn wanted<T>(&self, what: &str) -> Result<T, String> {
        match self.words.get(self.at) {
            Some((place, _)) => Err(format!("cannot be read at character {place}: expected {what}")),
            None => Err(format!("cannot be read at the end: expected {what}")),
        }
    }

    fn mark(&mut self, mark: char) -> Result<(), String> {
        if self.peek() == Some(Word::Mark(mark)) {
            self.at += 1;
            return Ok(());
        }
        self.wanted(&format!("`{mark}`"))
    }

    fn end(&self) -> Result<(), String> {
        if self.peek().is_none() { Ok(()) } else { self.wanted("the end") }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nests too deep: expected at most {MAX_DEPTH} levels"));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Word::Name(word)) if word.eq_ignore_ascii_case(name))
    }

    fn either(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.both()?];
        while self.is_name("or") {
            self.next();
            parts.push(self.both()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Any(parts) })
    }

    fn both(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.is_name("and") {
            self.next();
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }

    fn one(&mut self) -> Result<Condition, String> {
        if self.is_name("not") {
            self.next();
            let inner = self.deeper(Self::one)?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        if self.peek() == Some(Word::Mark('(')) {
            self.next();
            let inner = self.deeper(Self::either)?;
            self.mark(')')?;
            return Ok(inner);
        }
        match (self.peek(), self.words.get(self.at + 1).map(|(_, word)| word)) {
            (Some(Word::Name(name)), Some(Word::Mark('('))) => {
                if let Some(test) = text_test(name) {
                    return self.text_test(test);
                }
            }
            (None, _) => return self.wanted("a condition"),
            _ => {}
        }
        self.comparison()
    }

    fn text_test(&mut self, test: TextTest) -> Result<Condition, String> {
        self.next();
        self.mark('(')?;
        let whole = self.operand()?;
        self.mark(',')?;
        let part = self.operand()?;
        self.mark(')')?;
        Ok(Condition::Text(test, whole, part))
    }

    fn comparison(&mut self) -> Result<Condition, String> {
        let left = match self.operand_or_any()? {
            Ok(operand) => operand,
            Err(condition) => return Ok(condition),
        };
        let Some(Word::Name(word)) = self.peek() else { return self.alone(left) };
        if word.eq_ignore_ascii_case("in") {
            self.next();
            return self.listed(left);
        }
        let relation = match word.to_ascii_lowercase().as_str() {
            "eq" => Relation::Equal,
            "ne" => Relation::Different,
            "gt" => Relation::Greater,
            "ge" => Relation::GreaterOrEqual,
            "lt" => Relation::Less,
            "le" => Relation::LessOrEqual,
            _ => return self.alone(left),
        };
        self.next();
        let right = self.operand()?;
        Ok(Condition::Compare(left, relation, right))
    }

    /// A property by itself: whether it is true.
    fn alone(&self, operand: Operand) -> Result<Condition, String> {
        let follows = matches!(self.peek(), None | Some(Word::Mark(')')));
        match operand {
            Operand::Path(_) if follows || self.is_name("and") || self.is_name("or") => {
                Ok(Condition::True(operand))
            }
            _ => self.wanted("eq, ne, gt, ge, lt, le or in"),
        }
    }

    fn listed(&mut self, operand: Operand) -> Result<Condition, String> {
        self.mark('(')?;
        let mut values = Vec::new();
        loop {
            match self.operand()? {
                Operand::Constant(value) => values.push(value),
                _ => return self.wanted("constants"),
            }
            if self.peek() != Some(Word::Mark(',')) {
                break;
            }
            self.next();
        }
        self.mark(')')?;
        Ok(Condition::In(operand, values))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        match self.operand_or_any()? {
            Ok(operand) => Ok(operand),
            Err(_) => self.wanted("a property or a constant"),
        }
    }

    /// An operand, or what an `any` after a path makes of it.
    fn operand_or_any(&mut self) -> Result<Result<Operand, Condition>, String> {
        match self.peek() {
            Some(Word::Text(text)) => {
                self.next();
                Ok(Ok(Operand::Constant(Held::Text(text))))
            }
            Some(Word::Bare(text)) => {
                let value = match text.parse::<f64>() {
                    Ok(number) => Held::Number(number),
                    Err(_) if time(text).is_some() => Held::Text(text.to_owned()),
                    Err(_) => return self.wanted("a number or a time such as 2026-03-01T00:00:00Z"),
                };
                self.next();
                Ok(Ok(Operand::Constant(value)))
            }
            Some(Word::Name(name)) => self.named(name),
            _ => self.wanted("a property or a constant"),
        }
    }

    fn named(&mut self, name: &'a str) -> Result<Result<Operand, Condition>, String> {
        let constant = match name.to_ascii_lowercase().as_str() {
            "true" => Some(Held::Bool(true)),
            "false" => Some(Held::Bool(false)),
            "null" => Some(Held::Nothing),
            _ => None,
        };
        if let Some(constant) = constant {
            self.next();
            return Ok(Ok(Operand::Constant(constant)));
        }
        if let Some((_, Word::Mark('('))) = self.words.get(self.at + 1) {
            return self.function(name).map(Ok);
        }
        self.path_or_any()
    }

    fn function(&mut self, name: &str) -> Result<Operand, String> {
        let wrap: fn(Box<Operand>) -> Operand = match name.to_ascii_lowercase().as_str() {
            "tolower" => Operand::Lower,
            "toupper" => Operand::Upper,
            "trim" => Operand::Trim,
            "length" => Operand::Length,
            _ => {
                return Err(format!(
                    "`{name}` is not served here: expected contains, startswith, endswith, tolower, toupper, trim or length"
                ));
            }
        };
        self.next();
        self.mark('(')?;
        let inner = self.deeper(Self::operand)?;
        self.mark(')')?;
        Ok(wrap(Box::new(inner)))
    }

    fn path(&mut self, what: &str) -> Result<Path, String> {
        let mut path = Vec::new();
        loop {
            let Some(Word::Name(name)) = self.peek() else { return self.wanted(what) };
            self.next();
            path.push(name.to_owned());
            if self.peek() != Some(Word::Mark('/')) {
                break;
            }
            self.next();
        }
        self.known(&path)?;
        Ok(path)
    }

    fn path_or_any(&mut self) -> Result<Result<Operand, Condition>, String> {
        let mut path = Vec::new();
        loop {
            let Some(Word::Name(name)) = self.peek() else { return self.wanted("a property") };
            let calls = matches!(self.words.get(self.at + 1), Some((_, Word::Mark('('))));
            if calls && !path.is_empty() {
                if !name.eq_ignore_ascii_case("any") {
                    return Err(format!("`{name}` is not served here: expected any"));
                }
                self.known(&path)?;
                self.next();
                return self.any(path).map(Err);
            }
            self.next();
            path.push(name.to_owned());
            if self.peek() != Some(Word::Mark('/')) {
                break;
            }
            self.next();
        }
        self.known(&path)?;
        Ok(Ok(Operand::Path(path)))
    }

    fn any(&mut self, path: Path) -> Result<Condition, String> {
        self.mark('(')?;
        if self.peek() == Some(Word::Mark(')')) {
            self.next();
            return Ok(Condition::Some(path, None));
        }
        let Some(Word::Name(name)) = self.next() else { return self.wanted("a name for the items") };
        self.mark(':')?;
        let outer = self.item.replace(name.to_owned());
        let inner = self.deeper(Self::either)?;
        self.item = outer;
        self.mark(')')?;
        Ok(Condition::Some(path, Some((name.to_owned(), Box::new(inner)))))
    }

    fn known(&self, path: &[String]) -> Result<(), String> {
        let Some(first) = path.first() else { return Ok(()) };
        let is_item = self.item.as_ref() == Some(first);
        if is_item || PROPERTIES.iter().any(|known| known.eq_ignore_ascii_case(first)) {
            return Ok(());
        }
        Err(format!("`{first}` is no property of an event: expected one such as subject or start/dateTime"))
    }
}

fn text_test(name: &str) -> Option<TextTest> {
    match name.to_ascii_lowercase().as_str() {
        "contains" => Some(TextTest::Contains),
        "startswith" => Some(TextTest::StartsWith),
        "endswith" => Some(TextTest::EndsWith),
        _ => None,
    }
}
