// A real OpenID provider (oidc-provider) that gives out access tokens with Entra's claims.
//
// Its settings are one JSON argument. It listens on a free port of loopback without TLS, since the
// test puts a TLS end in front of it, prints the port on a line of its own, and ends with its
// standard input.

import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const { issuer, kids, secret, claims } = JSON.parse(process.argv[2]);

function key(kid) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
}

const client = (client_id) => ({
  client_id,
  client_secret: secret,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

const provider = new Provider(issuer, {
  clients: Object.keys(claims).map(client),
  jwks: { keys: kids.map(key) },
  cookies: { keys: ['only for tests'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: '',
        audience: resource,
        accessTokenTTL: 3600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  // Entra's claims; this provider itself says neither whose tenant it is nor from when a token counts.
  extraTokenClaims: (ctx, token) => ({ nbf: Math.floor(Date.now() / 1000) - 60, ...claims[token.clientId] }),
});
provider.proxy = true;

const server = createServer(provider.callback());
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
