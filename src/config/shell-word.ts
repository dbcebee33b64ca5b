/** Text that a user pastes into a shell. */

/** The text itself where no shell would change it (braces, spaces, …), else in single quotes. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
