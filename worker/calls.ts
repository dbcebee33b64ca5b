/** Asking a thread or a process and awaiting its answer: one request, one response, matched by a number. */
import { UserError } from "../src/protocol/errors.js";

export type Request =
  | { readonly id: number; readonly body: unknown }
  /** the last one: whoever is asked ends */
  | { readonly id: null };

export type Response =
  | { readonly id: number; readonly ok: true; readonly body: unknown }
  | { readonly id: number; readonly ok: false; readonly error: ThrownError }
  /** said without being asked */
  | { readonly id: null; readonly body: unknown };

/** An error on its way: structured cloning would forget its class and code. */
interface ThrownError {
  readonly code: string | null;
  readonly message: string;
  readonly stack: string | undefined;
}

function pack(error: unknown): ThrownError {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { code: error instanceof UserError ? error.code : null, message, stack };
}

function unpack({ code, message, stack }: ThrownError): Error {
  const error = code === null ? new Error(message) : new UserError(code, message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** `{ name: [request, response] }` */
export type CallsShape = Record<string, readonly [unknown, unknown]>;

/** The side that asks. */
export class Caller<Calls extends CallsShape, Notice = never> {
  private readonly waiting = new Map<number, { resolve: (body: never) => void; reject: (error: unknown) => void }>();
  private count = 0;
  private failure: Error | null = null;

  /** @param post hands a request to whoever is asked */
  constructor(
    private readonly post: (request: Request) => void,
    private readonly onNotice?: (notice: Notice) => void,
  ) {}

  call<Name extends keyof Calls & string>(name: Name, request: Calls[Name][0]): Promise<Calls[Name][1]> {
    const id = ++this.count;
    if (this.failure !== null) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.post({ id, body: { name, request } });
    });
  }

  heard(response: Response): void {
    if (response.id === null) {
      this.onNotice?.(response.body as Notice);
      return;
    }
    const caller = this.waiting.get(response.id);
    this.waiting.delete(response.id);
    if (response.ok) caller?.resolve(response.body as never);
    else caller?.reject(unpack(response.error));
  }

  /** Nobody answers any more. */
  failed(error: Error): void {
    this.failure ??= error;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

export type Handlers<Calls extends CallsShape> = {
  readonly [Name in keyof Calls]: (request: Calls[Name][0]) => Calls[Name][1] | Promise<Calls[Name][1]>;
};

/** The side that answers. @param post hands a response to whoever has asked */
export async function answer<Calls extends CallsShape>(
  handlers: Handlers<Calls>,
  { id, body }: Request & { readonly id: number },
  post: (response: Response) => void,
): Promise<void> {
  const { name, request } = body as { name: keyof Calls; request: never };
  try {
    post({ id, ok: true, body: await handlers[name](request) });
  } catch (error) {
    post({ id, ok: false, error: pack(error) });
  }
}
