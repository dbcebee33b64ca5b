/** A port that is sent garbage costs a counted, logged drop each time, and nothing else. */
import { connect } from "node:net";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { Dealer } from "zeromq";
import { checkpointOf, eventsOf, SMALL_RUN, start, temporaryFolder, tandem } from "../e2e/tandem.js";

const folder = temporaryFolder();

async function sendRaw(port: number, bytes: Buffer): Promise<void> {
  const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
  // libzmq resets the connection of whoever does not speak ZMTP, and greets whoever seems to.
  await new Promise<void>((resolve) => {
    for (const event of ["close", "data", "error"]) socket.on(event, () => resolve());
  });
  socket.destroy();
}

it("a run ends with the same bits while strangers send garbage to both planes", { timeout: 120_000 }, async () => {
  const flags = [...SMALL_RUN, "--steps", "20", "--workers", "1"];
  const calm = join(folder, "calm");
  expect((await tandem(["train", ...flags, "--out", calm])).code).toBe(0);

  const out = join(folder, "attacked");
  const coordinator = start(["coordinator", ...flags, "--listen", "tcp://127.0.0.1:*", "--out", out]);
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  const control = /tcp:\/\/127\.0\.0\.1:(\d+)/.exec(coordinator.stderr());
  const worker = start(["worker", "--connect", control?.[0] ?? ""]);
  await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "step"), { timeout: 30_000 });

  await sendRaw(Number(control?.[1]), Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  await sendRaw(Number(control?.[1]), Buffer.alloc(1000, 0xff));
  const stranger = new Dealer({ linger: 0 });
  stranger.connect(control?.[0] ?? "");
  await stranger.send(Buffer.from("this is no protobuf"));
  await stranger.send(Buffer.alloc(0));
  // A well-formed heartbeat of somebody who never said hello.
  await stranger.send(Buffer.of(0x1a, 0x00));
  await vi.waitUntil(() => eventsOf(out).filter(({ kind }) => kind === "dropped").length >= 3, { timeout: 20_000 });
  stranger.close();

  expect((await worker.ended).code, worker.stderr()).toBe(0);
  expect((await coordinator.ended).code, coordinator.stderr()).toBe(0);
  expect(coordinator.stderr()).toContain("are no message from a worker");
  expect(coordinator.stderr()).toContain("heartbeat from a peer that has not said hello");
  expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
});
