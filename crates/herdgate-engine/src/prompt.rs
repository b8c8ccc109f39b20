//! From messages to the prompt's text: the chat template of the model's file, which is Jinja.
//!
//! The template comes from the file, which its operator chose; the messages come from anywhere and are only ever values.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

/// One message of a conversation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    /// `system`, `user`, `assistant`, `tool`, or whatever the client wrote, in lower case.
    pub(crate) role: String,
    /// Its text.
    pub(crate) content: String,
}

/// The special texts that templates may name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// Text of the beginning-of-text token, or empty.
    pub(crate) bos: String,
    /// Text of the end-of-text token, or empty.
    pub(crate) eos: String,
}

/// A model's template, ready to render.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Option<Environment<'static>>,
    marks: Marks,
}

const NAME: &str = "chat";
/// Steps of one rendering: thousands of messages need less, a template without end is stopped within a second.
const MOST_STEPS: u64 = 5_000_000;

impl Template {
    /// Parses `text`; without one, a model gets the messages' bare texts, as in Ollama.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub(crate) fn new(text: Option<&str>, marks: Marks) -> Result<Template, String> {
        let Some(text) = text else { return Ok(Template { environment: None, marks }) };
        let mut environment = Environment::new();
        // The settings that Hugging Face's templates are written for.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| e.to_string())?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(MOST_STEPS));
        environment.add_function("raise_exception", raise);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|e| format!("its chat template is wrong: {e}"))?;
        Ok(Template { environment: Some(environment), marks })
    }

    /// The prompt for `messages`, up to where the assistant is to speak.
    ///
    /// # Errors
    /// What the template says is wrong with the messages.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, String> {
        let Some(environment) = &self.environment else {
            let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            return Ok(texts.join("\n\n"));
        };
        let values = context! {
            messages => Value::from(Serde(messages)),
            bos_token => self.marks.bos.as_str(),
            eos_token => self.marks.eos.as_str(),
            add_generation_prompt => true,
            // Thinking is not offered, and models that can leave it out are told so.
            enable_thinking => false,
        };
        let template = environment.get_template(NAME).map_err(|e| e.to_string())?;
        template.render(values).map_err(|e| match e.kind() {
            ErrorKind::InvalidOperation => e.detail().unwrap_or("the chat template refuses this").to_owned(),
            _ => format!("the chat template fails: {e}"),
        })
    }

    /// Whether a rendered prompt already begins with the beginning-of-text mark.
    pub(crate) fn begins_with_bos(&self, prompt: &str) -> bool {
        !self.marks.bos.is_empty() && prompt.starts_with(&self.marks.bos)
    }
}

fn raise(reason: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, reason))
}

fn strftime_now(format: String) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\
                          {%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn a_template_gets_messages_marks_and_python_methods() {
        let template = Template::new(Some(CHATML), Marks::default()).unwrap();
        let prompt = template.render(&[message("user", "Hi {{ x }}")]).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nHi {{ x }}<|im_end|>\n<|im_start|>assistant\n");
        let marks = Marks { bos: "<s>".into(), eos: "</s>".into() };
        let text = "{{ bos_token }}{{ messages[0]['content'].strip().upper() }}{{ eos_token }}";
        let template = Template::new(Some(text), marks).unwrap();
        let prompt = template.render(&[message("user", " hi ")]).unwrap();
        assert_eq!(prompt, "<s>HI</s>");
        assert!(template.begins_with_bos(&prompt));
    }

    #[test]
    fn what_a_template_refuses_is_told() {
        let template =
            Template::new(Some("{{ raise_exception('roles must alternate') }}"), Marks::default()).unwrap();
        assert_eq!(template.render(&[]).unwrap_err(), "roles must alternate");
        let broken = Template::new(Some("{% for %}"), Marks::default()).unwrap_err();
        assert!(broken.starts_with("its chat template is wrong"), "{broken}");
    }

    #[test]
    fn a_template_without_end_is_stopped() {
        let text = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let template = Template::new(Some(text), Marks::default()).unwrap();
        assert!(template.render(&[]).unwrap_err().starts_with("the chat template fails"));
    }

    #[test]
    fn without_a_template_the_texts_are_the_prompt() {
        let template = Template::new(None, Marks::default()).unwrap();
        assert_eq!(template.render(&[message("system", "a"), message("user", "b")]).unwrap(), "a\n\nb");
    }
}
