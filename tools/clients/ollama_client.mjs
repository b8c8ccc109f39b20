// Ollama's own JavaScript client through the gate.

import { Ollama } from 'ollama'

const { HERDGATE_URL, HERDGATE_KEY, WRONG_KEY, MODEL, EMBEDDER, QUESTION } = process.env
const client = (key) => new Ollama({ host: HERDGATE_URL, headers: { Authorization: `Bearer ${key}` } })
const failure = async (call) => {
  try {
    await call()
    return null
  } catch (error) {
    return { status: error.status_code, text: error.message }
  }
}

const gate = client(HERDGATE_KEY)
const chat = { model: MODEL, messages: [{ role: 'user', content: QUESTION }], options: { temperature: 0 } }
const parts = []
for await (const part of await gate.chat({ ...chat, stream: true })) parts.push(part.message.content)
console.log(
  JSON.stringify({
    chat: (await gate.chat(chat)).message.content,
    stream: parts.join(''),
    parts: parts.length,
    vectors: (await gate.embed({ model: EMBEDDER, input: ['one', 'two'] })).embeddings.map((one) => one.length),
    models: (await gate.list()).models.map((model) => model.name),
    show: (await gate.show({ model: MODEL })).details.family,
    wrong_key: await failure(() => client(WRONG_KEY).list()),
    unknown_model: await failure(() => gate.chat({ ...chat, model: `${MODEL}x` })),
  }),
)
