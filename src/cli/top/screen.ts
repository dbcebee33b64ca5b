/** The whole terminal for a while: its other screen (xterm's 1049), without a cursor, and keys as they are pressed. */
import type { ReadStream, WriteStream } from "node:tty";
import type { Size } from "./frame.js";

const OPEN = "\u001b[?1049h\u001b[?25l";
const CLOSE = "\u001b[?25h\u001b[?1049l";
const HOME = "\u001b[H";
const TO_LINE_END = "\u001b[K";
const TO_SCREEN_END = "\u001b[J";
/** What Ctrl-C is where nobody makes a signal of it. */
const CTRL_C = "\u0003";

export class Screen {
  private isOpen = true;
  private readonly onKeys = (bytes: Buffer) => {
    const keys = bytes.toString();
    if (/[qQ]/.test(keys) || keys.includes(CTRL_C)) this.asked.onQuit();
  };
  private readonly onResize = () => {
    this.asked.onResize();
  };
  private readonly onExit = () => {
    this.close();
  };

  constructor(
    private readonly output: WriteStream,
    private readonly input: ReadStream,
    private readonly asked: { readonly onQuit: () => void; readonly onResize: () => void },
  ) {
    output.write(OPEN);
    output.on("resize", this.onResize);
    // However this process ends.
    process.on("exit", this.onExit);
    if (!input.isTTY) return;
    input.setRawMode(true);
    input.on("data", this.onKeys);
  }

  get size(): Size {
    return { columns: this.output.columns, rows: this.output.rows };
  }

  draw(lines: readonly string[]): void {
    if (!this.isOpen) return;
    const text = lines.map((line) => line + TO_LINE_END).join("\n");
    this.output.write(HOME + text + TO_SCREEN_END);
  }

  /** The terminal is as it was. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    process.off("exit", this.onExit);
    this.output.off("resize", this.onResize);
    if (this.input.isTTY) {
      this.input.off("data", this.onKeys);
      this.input.setRawMode(false);
      this.input.pause();
    }
    this.output.write(CLOSE);
  }
}
