// Counts the runs of a Streamlit app's script as its own messages tell of them, so that tests wait for runs and never
// for time. Goes into a page before the app's own code. Field numbers: streamlit/proto/ForwardMsg.proto, BackMsg.proto.
(() => {
  const NEW_SESSION = 4, SCRIPT_FINISHED = 6, RERUN_SCRIPT = 11, IS_AUTO_RERUN = 6, FOR_RERUN = 2;
  const told = { ended: 0, running: false, last: null, pending: false, received_bytes: 0, messages: 0 };
  window.__runs = told;

  function varint(bytes, at) {
    let value = 0, scale = 1;
    for (;;) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return [value, at];
      scale *= 128;
    }
  }

  // The numbers of a message's own fields, with the values of those that are numbers, and the bytes of what has a length.
  function fields(bytes) {
    const found = new Map();
    for (let at = 0; at < bytes.length;) {
      let key, value = null;
      [key, at] = varint(bytes, at);
      switch (key & 7) {
        case 0: [value, at] = varint(bytes, at); break;
        case 1: at += 8; break;
        case 2: { let length; [length, at] = varint(bytes, at); value = bytes.subarray(at, at += length); break; }
        case 5: at += 4; break;
        default: throw new Error(`no such wire type: ${key & 7}`);
      }
      found.set(Math.floor(key / 8), value);
    }
    return found;
  }

  function received(data) {
    if (!(data instanceof ArrayBuffer)) return;
    told.messages += 1;
    told.received_bytes += data.byteLength;
    const found = fields(new Uint8Array(data));
    // A run that another one interrupts begins and never ends: only the newest counts.
    if (found.has(NEW_SESSION)) { told.running = true; told.pending = false; }
    if (found.has(SCRIPT_FINISHED)) { told.ended += 1; told.running = false; told.last = found.get(SCRIPT_FINISHED); }
  }

  function sent(data) {
    const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : ArrayBuffer.isView(data) ?
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : null;
    const asks = bytes && fields(bytes).get(RERUN_SCRIPT);
    // What asks by itself for a part of the page that has gone meanwhile is never answered, so nobody may wait for it.
    if (asks && !fields(asks).get(IS_AUTO_RERUN)) told.pending = true;
  }

  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...how) {
      super(...how);
      this.addEventListener("message", (event) => received(event.data));
    }
    send(data) { sent(data); return super.send(data); }
  };

  const drawn = (chart) => [...chart.querySelectorAll("canvas, svg")].some((mark) => mark.clientWidth > 0);

  // Whether more than `before` runs have ended, none goes on, and what they said is on the screen.
  window.__settled = (before) => {
    const app = document.querySelector("[data-testid=stApp]");
    return told.ended > before && !told.running && !told.pending && told.last !== FOR_RERUN && app !== null &&
      app.dataset.testScriptState === "notRunning" && app.dataset.testConnectionState === "CONNECTED" &&
      document.querySelector("[data-stale=true], [data-testid=stSkeleton]") === null &&
      [...document.querySelectorAll("[data-testid=stVegaLiteChart]")].every((chart) =>
        chart.offsetParent === null || drawn(chart));
  };
  // Or the page says how far work in the background is, for which it runs again and again.
  window.__shown = () => window.__settled(0) ||
    (told.ended > 0 && document.querySelector("[data-testid=stProgress]") !== null);
  // And no work in the background is on its way.
  window.__answered = () => window.__settled(0) && document.querySelector("[data-testid=stProgress]") === null;
})();
