//! A program and its key as one text for a shell: two files, the key in one of its own that nobody else may read.

use super::Filled;

/// Writes over nothing, and stops at the first file that is there: the key comes first, so that it is not lost.
pub(super) fn script(filled: &Filled<'_>, (secret, name): (&str, &str), install: &str, by: &str) -> String {
    let (path, key_file) = (filled.client.row().path, filled.key_file());
    format!(
        "# A program that asks the gate, and its key \"{name}\" in a file of its own: paste it into a shell, or pipe it into one: … | sh\n\
         # It makes two files in the working directory, and writes over none that is there.\n\
         (\nset -eC\numask 077\n\
         if [ -e {key_file} ]; then\n\
         echo 'error: {key_file} is here already, and the new key is in no file' >&2\n\
         echo 'hint: move it away, and give the key a new secret: herdgate key rotate {name} --overlap 0s' >&2\n\
         exit 2\nfi\n\
         cat >{key_file} <<'END OF KEY'\n{secret}\nEND OF KEY\n\
         if [ -e {path} ]; then\n\
         echo 'error: {path} is here already, and stays as it is; the key is in {key_file}' >&2\n\
         echo 'hint: herdgate deploy client {kind} prints the program; HERDGATE_KEY_FILE={key_file} has it use this key' >&2\n\
         exit 2\nfi\n\
         cat >{path} <<'END OF PROGRAM'\n{}END OF PROGRAM\n\
         echo 'Now: {install} && {by} {path} \"Why is the sky blue?\"' >&2\n)\n",
        filled.text(),
        kind = filled.client.word(),
    )
}
