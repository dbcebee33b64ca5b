import { Dealer } from "zeromq";
import { SOFTWARE_VERSION } from "../../../src/protocol/version.js";
import { coordinatorCodec, PROTOCOL_VERSION, workerCodec } from "../../../src/protocol/wire.js";

/** What a coordinator without keys tells whoever says hello. */
export async function welcomeOf(endpoint: string) {
  const socket = new Dealer({ linger: 0 });
  socket.connect(endpoint);
  const [instance, attempt] = ["a".repeat(32), 1];
  const hello = { protocolVersion: PROTOCOL_VERSION, softwareVersion: SOFTWARE_VERSION, instance, attempt };
  await socket.send(Buffer.from(workerCodec.encode({ body: "hello", hello, number: 1 })));
  const [answer] = await socket.receive();
  socket.close();
  const message = coordinatorCodec.decode(answer ?? Buffer.alloc(0));
  if (message.body !== "welcome") throw new Error(`no welcome, but ${String(message.body)}`);
  const { runId, configJson, aggregators, samplesPort } = message.welcome;
  const ports = { aggregators: aggregators ?? [], samplesPort: samplesPort ?? 0 };
  return { runId: runId ?? "", configJson: configJson ?? "", ...ports };
}
