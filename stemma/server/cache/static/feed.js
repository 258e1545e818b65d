// The connection: /cache/events as server-sent events, read with fetch, which can send a key. Tries again for ever.

const AGAIN = 1500;

// told: { start(), message(value), locked(), away() }. Ends where a key is wanted; connect again with one.
export async function connect(key, told) {
  try {
    const response = await fetch("cache/events", key ? { headers: { authorization: "Bearer " + key } } : {});
    if (response.status === 401) return told.locked();
    if (!response.ok) throw new Error(String(response.status));
    told.start();
    for await (const text of events(response.body)) told.message(JSON.parse(text));
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || /^\d+$/.test(error.message))) console.error(error);
  }
  told.away();
  setTimeout(connect, AGAIN, key, told);
}

// The data of each event; comments, which only keep the line open, have none.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) yield data.join("\n");
    }
  }
}
