/**
 * CURVE keys (RFC 25, CurveZMQ): who may speak to whom. Each party has a folder of its own: `secret.key`, which nobody else may
 * read, and the public keys of those whom it knows (`coordinator.pub` with a worker, `workers/*.pub` with the coordinator).
 */
import { mkdir, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { curveKeyPair } from "zeromq";
import { UserError } from "../protocol/errors.js";

/** Keys are 32 bytes in Z85 (RFC 32). */
export interface KeyPair {
  readonly publicKey: string;
  readonly secretKey: string;
}

/** What a coordinator needs: its own pair, and the workers that it lets in. */
export interface ServerKeys extends KeyPair {
  /** public keys, by the names of their files */
  readonly workers: Readonly<Record<string, string>>;
}

/** What a worker needs: its own pair, and the coordinator that it speaks to. */
export interface ClientKeys extends KeyPair {
  readonly coordinator: string;
}

const Z85_KEY = /^[0-9a-zA-Z.\-:+=^!/*?&<>()[\]{}@%$#]{40}$/;
const SECRET = "secret.key";
const COORDINATOR = "coordinator.pub";
const WORKERS = "workers";
/**
 * Bits by which others than the owner may read, write or run. Where root owns the file and we are not root, our group may read it: so Kubernetes
 * mounts Secrets for those who are not root, and PostgreSQL has the same exception.
 */
const OTHERS = 0o077;
const OTHERS_OF_ROOTS = 0o037;
/** A name that is a file name on every system. */
const NAME = /^[\w-]{1,64}$/;

/**
 * Makes folders of keys: `coordinator/` and one a worker, each all that its party needs.
 * @returns the folders
 * @throws UserError `KEYS_EXIST`, `KEYS_NAME`, `KEYS_WRITE`
 */
export async function createKeys(folder: string, workers: readonly string[]): Promise<string[]> {
  const unfit = workers.find((name) => !NAME.test(name) || name === "coordinator");
  if (unfit !== undefined) {
    throw new UserError(
      "KEYS_NAME",
      `--worker ${unfit}: a name has letters, digits, - and _, and is not "coordinator"`,
    );
  }
  const party = (name: string) => join(folder, name);
  try {
    const coordinator = (await existingPublicKey(party("coordinator"))) ?? (await writeSecret(party("coordinator")));
    await mkdir(join(party("coordinator"), WORKERS), { recursive: true, mode: 0o700 });
    for (const name of workers) {
      const publicKey = await writeSecret(party(name));
      await writeText(join(party(name), COORDINATOR), coordinator);
      await writeText(join(party("coordinator"), WORKERS, `${name}.pub`), publicKey);
    }
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError("KEYS_WRITE", `cannot write keys to ${folder}: ${(cause as Error).message}`, { cause });
  }
  return ["coordinator", ...workers].map(party);
}

/** More workers may be added to the folder of a coordinator that has its keys. */
async function existingPublicKey(folder: string): Promise<string | null> {
  const isThere = await stat(join(folder, SECRET)).catch(() => null);
  return isThere === null ? null : (await readSecret(folder)).publicKey;
}

async function writeSecret(folder: string): Promise<string> {
  const { publicKey, secretKey } = curveKeyPair();
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, SECRET);
  try {
    const file = await open(path, "wx", 0o600);
    await file.writeFile(secretText({ publicKey, secretKey }));
    await file.close();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    throw new UserError("KEYS_EXIST", `${path} is there already: choose another --out or --worker, or remove it`, {
      cause,
    });
  }
  return publicKey;
}

function secretText({ publicKey, secretKey }: KeyPair): string {
  return `# Secret: whoever reads this is taken for its owner.\npublic ${publicKey}\nsecret ${secretKey}\n`;
}

/** Keys of a coordinator and of workers that share one, as the files of their folders; the worker's public key belongs in `workers/`. */
export function newKeyFiles(): Readonly<Record<"coordinator" | "worker", Readonly<Record<string, string>>>> {
  const [coordinator, worker] = [curveKeyPair(), curveKeyPair()];
  return {
    coordinator: { [SECRET]: secretText(coordinator), "worker.pub": `${worker.publicKey}\n` },
    worker: { [SECRET]: secretText(worker), [COORDINATOR]: `${coordinator.publicKey}\n` },
  };
}

async function writeText(path: string, publicKey: string): Promise<void> {
  await writeFile(path, `${publicKey}\n`, { mode: 0o600 });
}

/** @throws UserError `KEYS_UNREADABLE`, `KEYS_PERMISSIONS`, `KEYS_INVALID` */
export async function readServerKeys(folder: string): Promise<ServerKeys> {
  const pair = await readSecret(folder);
  const names = await listed(join(folder, WORKERS));
  const workers: Record<string, string> = {};
  for (const file of names) workers[file.slice(0, -".pub".length)] = await readPublic(join(folder, WORKERS, file));
  if (names.length === 0) {
    throw new UserError(
      "KEYS_INVALID",
      `${join(folder, WORKERS)} holds no public key of a worker: see tandem keys new`,
    );
  }
  return { ...pair, workers };
}

/** @throws UserError as `readServerKeys` */
export async function readClientKeys(folder: string): Promise<ClientKeys> {
  return { ...(await readSecret(folder)), coordinator: await readPublic(join(folder, COORDINATOR)) };
}

async function listed(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith(".pub")).sort();
  } catch (cause) {
    throw unreadable(folder, cause);
  }
}

async function readSecret(folder: string): Promise<KeyPair> {
  const path = join(folder, SECRET);
  let text: string;
  try {
    const { mode, uid } = await stat(path);
    const isRoots = uid === 0 && process.getuid?.() !== 0;
    if ((mode & (isRoots ? OTHERS_OF_ROOTS : OTHERS)) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(3, "0");
      throw new UserError(
        "KEYS_PERMISSIONS",
        `${path} can be used by others than its owner (mode ${shown}): chmod 600 it, and make new keys if anybody may have read it`,
      );
    }
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw cause instanceof UserError ? cause : unreadable(path, cause);
  }
  const value = (name: string) => new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? "";
  return { publicKey: checked(path, value("public")), secretKey: checked(path, value("secret")) };
}

async function readPublic(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw unreadable(path, cause);
  }
  return checked(path, text.trim());
}

function checked(path: string, key: string): string {
  if (Z85_KEY.test(key)) return key;
  throw new UserError("KEYS_INVALID", `${path} holds no key (40 characters of Z85): make keys with tandem keys new`);
}

function unreadable(path: string, cause: unknown): UserError {
  const { code = "" } = cause as NodeJS.ErrnoException;
  const isDenied = code === "EACCES" || code === "EPERM";
  const remedy = isDenied ? "let this user read it" : "name a folder that tandem keys new has made";
  return new UserError("KEYS_UNREADABLE", `cannot read ${path} (${code}): ${remedy}`, { cause });
}
