//! Measured figures in the README: each table stands between two markers and is written by the command that measures it.

use std::fs;

use crate::process::{Result, root};

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->` in the README by a code block of `text`.
pub(crate) fn update(name: &str, text: &str) -> Result<()> {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).map_err(|e| format!("README.md: {e}"))?;
    let readme = replaced(&readme, name, text)?;
    fs::write(&path, readme).map_err(|e| format!("README.md: {e}"))
}

fn replaced(readme: &str, name: &str, text: &str) -> Result<String> {
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let missing = || format!("README.md: no block between {} and {end}", start.trim_end());
    let from = readme.find(&start).ok_or_else(missing)? + start.len();
    let length = readme.get(from..).and_then(|rest| rest.find(&end)).ok_or_else(missing)?;
    let lines: Vec<String> =
        text.trim_end().lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
    let (before, after) =
        (readme.get(..from).unwrap_or_default(), readme.get(from + length..).unwrap_or_default());
    Ok(format!("{before}\n{}\n\n{after}", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_and_the_rest_stays() {
        let readme = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let once = replaced(readme, "x", "1\n\n2\n").unwrap();
        assert_eq!(once, "a\n<!-- x -->\n\n    1\n\n    2\n\n<!-- /x -->\nb\n");
        assert_eq!(replaced(&once, "x", "1\n\n2\n").unwrap(), once);
        assert!(replaced(readme, "y", "").is_err());
    }
}
