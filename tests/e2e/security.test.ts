/** A run with keys: nobody without a key that is known learns or changes anything. */
import { chmodSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { parse } from "yaml";
import { curveKeyPair, Dealer } from "zeromq";
import { workerCodec } from "../../src/protocol/wire.js";
import { readClientKeys, readServerKeys } from "../../src/transport/index.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, temporaryFolder, type Running } from "./tandem.js";

const folder = temporaryFolder();
const keys = join(folder, "keys");
const out = join(folder, "run");
let coordinator: Running;
let endpoint = "";

beforeAll(async () => {
  expect((await tandem(["keys", "new", "--out", keys, "--worker", "a", "b"])).code).toBe(0);
  const flags = [...SMALL_RUN, "--steps", "20", "--set", "membership.minWorkers=2"];
  coordinator = start(
    ["coordinator", ...flags, "--listen", "tcp://127.0.0.1:*", "--keys", join(keys, "coordinator"), "--out", out],
    folder,
  );
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  [endpoint = ""] = /tcp:\S+/.exec(coordinator.stderr()) ?? [];
}, 60_000);
afterAll(() => coordinator.process.kill("SIGKILL"));

const refusals = () =>
  eventsOf(out)
    .filter((event) => event.kind === "dropped")
    .map((event) => (event as unknown as { reason: string }).reason);

/** Peers refused, those among them of whom nothing was said one by one. */
const refusalCount = () => refusals().reduce((sum, reason) => sum + Number(/^(\d+) more/.exec(reason)?.[1] ?? 1), 0);

/** Says hello on a socket with these keys. @returns whether a word came back */
async function isAnswered(options: ConstructorParameters<typeof Dealer>[0]): Promise<boolean> {
  const socket = new Dealer({ linger: 0, receiveTimeout: 1500, sendTimeout: 1500, ...options });
  socket.connect(endpoint);
  try {
    await socket.send(Buffer.from(workerCodec.encode({ body: "hello", hello: {}, number: 1 })));
    await socket.receive();
    return true;
  } catch {
    return false;
  } finally {
    socket.close();
  }
}

describe("a coordinator with keys", () => {
  it("gives a peer without keys, with an unknown key, or with a wrong coordinator's key no answer, and counts it", async () => {
    const server = await readServerKeys(join(keys, "coordinator"));
    const known = await readClientKeys(join(keys, "a"));
    const pair = (curve: { publicKey: string | null; secretKey: string | null }, serverKey: string) => ({
      curvePublicKey: curve.publicKey,
      curveSecretKey: curve.secretKey,
      curveServerKey: serverKey,
    });
    expect(await isAnswered({})).toBe(false);
    await vi.waitUntil(() => refusals().some((reason) => reason.includes("without keys")), { timeout: 5000 });
    expect(await isAnswered(pair(curveKeyPair(), server.publicKey))).toBe(false);
    await vi.waitUntil(() => refusals().some((reason) => reason.includes("not known here")), { timeout: 5000 });
    expect(await isAnswered(pair(known, curveKeyPair().publicKey ?? ""))).toBe(false);
    // Whoever has a key is at least told what is wrong.
    expect(await isAnswered(pair(known, server.publicKey))).toBe(true);
  });

  it("does not fall for a handshake that was recorded and is played again", async () => {
    const port = Number(endpoint.split(":").at(-1));
    const { Proxy } = await import("./proxy.js");
    const recorded: Buffer[] = [];
    const proxy = await Proxy.listen({ host: "127.0.0.3", port }, { host: "127.0.0.1", port }, (bytes) =>
      recorded.push(Buffer.from(bytes)),
    );
    const server = await readServerKeys(join(keys, "coordinator"));
    const known = await readClientKeys(join(keys, "a"));
    const dealer = new Dealer({
      ...{ linger: 0, receiveTimeout: 2000, curvePublicKey: known.publicKey, curveSecretKey: known.secretKey },
      curveServerKey: server.publicKey,
    });
    dealer.connect(`tcp://127.0.0.3:${port}`);
    await dealer.send(Buffer.from(workerCodec.encode({ body: "hello", hello: {}, number: 1 })));
    await dealer.receive();
    dealer.close();
    proxy.close();
    const before = refusalCount();
    const stranger = connect(port, "127.0.0.1");
    stranger.on("error", () => undefined);
    for (const piece of recorded) {
      stranger.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await vi.waitUntil(() => refusalCount() > before, { timeout: 10_000 });
    stranger.destroy();
  });

  it("lets in the workers that it knows, and they finish the run", { timeout: 90_000 }, async () => {
    const workers = ["a", "b"].map((name) => start(["worker", "--connect", endpoint, "--keys", join(keys, name)]));
    for (const worker of workers) expect((await worker.ended).code, worker.stderr()).toBe(0);
    expect((await coordinator.ended).code, coordinator.stderr()).toBe(0);
    expect((await checkpointOf(out)).step).toBe(20);
  });
});

describe("keys", () => {
  it("lie in files that nobody else can read, and a folder of them is not overwritten", async () => {
    for (const name of ["coordinator", "a", "b"]) {
      expect(statSync(join(keys, name, "secret.key")).mode & 0o777).toBe(0o600);
    }
    const again = await tandem(["keys", "new", "--out", keys, "--worker", "a"]);
    expect(again.code).toBe(2);
    expect(again.stderr).toContain("is there already");
    // A worker more joins the coordinator that is there.
    expect((await tandem(["keys", "new", "--out", keys, "--worker", "c"])).code).toBe(0);
    expect(Object.keys((await readServerKeys(join(keys, "coordinator"))).workers)).toEqual(["a", "b", "c"]);
  });

  it("that others can read, that are broken or missing are refused with the remedy", async () => {
    const secret = join(keys, "a/secret.key");
    const refused = async (message: string) => {
      const { code, stderr } = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", "--keys", join(keys, "a")]);
      expect(stderr).toContain(message);
      expect(code).toBe(2);
      expect(stderr.trim().split("\n")).toHaveLength(1);
    };
    chmodSync(secret, 0o640);
    await refused("mode 640): chmod 600 it");
    chmodSync(secret, 0o600);
    writeFileSync(secret, "public nothing\n");
    await refused("holds no key");
    rmSync(secret);
    await refused("(ENOENT): name a folder");
  });
});

it("a worker reads no folder that a coordinator elsewhere names", { timeout: 60_000 }, async () => {
  const photos = join(folder, "photos");
  mkdirSync(photos);
  for (let number = 0; number < 32; number++) {
    const background = { r: 4 * number, g: 99, b: 9 };
    await sharp({ create: { width: 20, height: 20, channels: 3, background } })
      .png()
      .toFile(join(photos, `${number}.png`));
  }
  const data = `folder:${photos}`;
  const flags = [...SMALL_RUN, "--set", `data.spec=${data}`, "--steps", "2", "--out", join(folder, "elsewhere")];
  const server = start(["coordinator", ...flags, "--listen", "tcp://127.0.0.1:*"]);
  await vi.waitUntil(() => server.stderr().includes("listening at"), { timeout: 20_000 });
  const [, port = ""] = /tcp:\/\/127\.0\.0\.1:(\d+)/.exec(server.stderr()) ?? [];
  // This machine too, but not by an address that says so.
  const worker = ["worker", "--connect", `tcp://0.0.0.0:${port}`];
  const refused = await tandem(worker);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain(`give --data with where this machine keeps them, e.g. --data ${data}`);
  const told = await tandem([...worker, "--data", data]);
  expect(told.code, told.stderr).toBe(0);
  expect((await server.ended).code).toBe(0);
});

it("writes the two Secrets of a run on Kubernetes, each half of a pair that fits the other", async () => {
  const { code, stdout } = await tandem(["keys", "new", "--k8s", "--name", "moco"]);
  expect(code).toBe(0);
  const secrets = stdout.split("---\n").map((text) => parse(text) as { metadata: { name: string }; data: object });
  expect(secrets.map(({ metadata, data }) => [metadata.name, Object.keys(data)])).toEqual([
    ["moco-coordinator-keys", ["secret.key", "worker.pub"]],
    ["moco-worker-keys", ["secret.key", "coordinator.pub"]],
  ]);
  const [coordinator, worker] = secrets.map(({ data }) =>
    Object.fromEntries(
      Object.entries(data).map(([name, text]) => [name, Buffer.from(String(text), "base64").toString()]),
    ),
  );
  const publicOf = (text: string | undefined) => /^public (\S+)$/m.exec(text ?? "")?.[1];
  expect(publicOf(coordinator?.["secret.key"])).toBe(worker?.["coordinator.pub"]?.trim());
  expect(publicOf(worker?.["secret.key"])).toBe(coordinator?.["worker.pub"]?.trim());
  const refused = await tandem(["keys", "new", "--k8s", "--worker", "a", "b"]);
  expect([refused.code, refused.stderr]).toEqual([
    2,
    "tandem: --k8s writes Secrets that all workers share to standard output: leave out --worker and --out\n",
  ]);
});
