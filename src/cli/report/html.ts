/** A report as one HTML file that needs nothing else: no script, no font, no image from elsewhere; light and dark. */
import { escaped } from "../../evaluation/markup.js";
import { SOFTWARE_VERSION } from "../../protocol/version.js";

/** HTML that is safe to put into a page. */
export type Html = string & { readonly __html: unique symbol };

export function text(plain: string): Html {
  return escaped(plain) as Html;
}

export function paragraph(plain: string): Html {
  return `<p>${text(plain)}</p>` as Html;
}

/** @param rows the first cell of each names it */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): Html {
  const cells = head.map((name) => `<th scope="col">${text(name)}</th>`).join("");
  const body = rows.map(([name = "", ...others]) => {
    const rest = others.map((value) => `<td>${text(value)}</td>`).join("");
    return `<tr><th scope="row">${text(name)}</th>${rest}</tr>`;
  });
  return `<div class="scroll"><table><thead><tr>${cells}</tr></thead><tbody>${body.join("")}</tbody></table></div>` as Html;
}

/** Commands and what else is to be copied. */
export function listing(lines: readonly string[]): Html {
  return `<pre tabindex="0">${text(lines.join("\n"))}</pre>` as Html;
}

export interface Section {
  readonly heading: string;
  readonly content: readonly Html[];
}

const STYLE = `
:root { color-scheme: light dark; --text: #1c2025; --quiet: #5b636d; --line: #d5d9de; --ground: #fff; --sunk: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --quiet: #9aa4af; --line: #3a424b; --ground: #14181c; --sunk: #1e242a; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; } th:first-child { text-align: left; }
pre { background: var(--sunk); padding: .8rem; overflow-x: auto; } footer { color: var(--quiet); margin-top: 2rem; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
`;

export function page(title: string, sections: readonly Section[]): string {
  const body = sections.map(
    ({ heading, content }) => `<section><h2>${text(heading)}</h2>${content.join("\n")}</section>`,
  );
  return [
    '<!doctype html><html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${text(title)}</title><style>${STYLE}</style></head><body><main><h1>${text(title)}</h1>`,
    ...body,
    `</main><footer>Tandem ${text(SOFTWARE_VERSION)}, ${new Date().toISOString()}</footer></body></html>`,
    "",
  ].join("\n");
}
