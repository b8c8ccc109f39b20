// What Ollama's own JavaScript client makes of streams whose model gives up.

import { Ollama } from 'ollama'

const { HERDGATE_URL, HERDGATE_KEY, MODEL, QUESTION } = process.env
const gate = new Ollama({ host: HERDGATE_URL, headers: { Authorization: `Bearer ${HERDGATE_KEY}` } })
const taken = async (stream) => {
  let parts = 0
  try {
    for await (const _ of await stream()) parts += 1
    return { parts, text: null }
  } catch (error) {
    return { parts, text: error.message }
  }
}

const messages = [{ role: 'user', content: QUESTION }]
console.log(
  JSON.stringify({
    chat: await taken(() => gate.chat({ model: MODEL, messages, stream: true })),
    generate: await taken(() => gate.generate({ model: MODEL, prompt: QUESTION, stream: true })),
  }),
)
