//! The templates that come with the program; their texts are under `src/templates/`.

use super::{StarterFile, Template, TemplateError, parse};

/// A built-in template: name, TOML, starter files (path, content).
type Source = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

macro_rules! source {
    ($name:literal, $($file:literal),* $(,)?) => {
        (
            $name,
            include_str!(concat!("../templates/", $name, "/template.toml")),
            &[$(($file, include_str!(concat!("../templates/", $name, "/files/", $file)))),*],
        )
    };
}

const SOURCES: &[Source] = &[
    source!("default", "README.md"),
    source!("node", "README.md", "package.json", "server.js"),
    source!("python", "README.md", "main.py", "requirements.txt"),
    source!("static", "README.md", "index.html", "style.css"),
];

/// All of them.
///
/// # Errors
/// Never, as the test shows.
pub fn templates() -> Result<Vec<Template>, TemplateError> {
    SOURCES
        .iter()
        .map(|(name, text, files)| {
            let name = name
                .parse()
                .map_err(|error: fleet::id::InvalidId| TemplateError {
                    template: (*name).to_owned(),
                    problem: error.to_string(),
                })?;
            let files = files
                .iter()
                .map(|(path, content)| StarterFile {
                    path: path.into(),
                    content: content.as_bytes().to_vec(),
                    executable: false,
                })
                .collect();
            parse::template(name, text, files)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_well_formed() {
        let names: Vec<_> = templates()
            .unwrap()
            .into_iter()
            .map(|template| template.name.as_str().to_owned())
            .collect();
        assert_eq!(names, ["default", "node", "python", "static"]);
    }
}
