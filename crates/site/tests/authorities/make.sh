#!/bin/sh
# Makes the files of this folder with openssl 3: a root, an issuing authority, a device, in all the
# forms in which an administrator may have them. Run in an empty folder; copy what it leaves here.
set -eu
cat > ext.cnf <<'CNF'
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:http://crl.example.org/root.crl
[client]
basicConstraints = CA:false
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:http://crl.example.org/issuing.crl
CNF
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
key root; key issuing; key device
openssl req -new -key root.key -subj "/O=Example/CN=Example Root, Inc." -out root.csr
openssl x509 -req -in root.csr -signkey root.key -days 36500 -extfile ext.cnf -extensions ca -out root.pem
openssl req -new -key issuing.key -subj "/O=Example/CN=Example Issuing" -out issuing.csr
openssl x509 -req -in issuing.csr -CA root.pem -CAkey root.key -CAcreateserial -days 36500 \
    -extfile ext.cnf -extensions ca -out issuing.pem
openssl req -new -key device.key -subj "/CN=PC1" -out device.csr
openssl x509 -req -in device.csr -CA issuing.pem -CAkey issuing.key -CAcreateserial -days 36500 \
    -extfile ext.cnf -extensions client -out device.pem
openssl x509 -in root.pem -outform DER -out root.cer
cat device.pem issuing.pem root.pem > chain.pem
openssl crl2pkcs7 -nocrl -certfile chain.pem -outform DER -out chain.p7b
openssl crl2pkcs7 -nocrl -certfile chain.pem -out chain-pem.p7b
cat issuing.pem root.pem > authorities.pem
openssl pkcs12 -export -inkey device.key -in device.pem -certfile authorities.pem -passout pass:geheim-ü \
    -out chain.pfx
rm -f ./*.csr ./*.srl ext.cnf root.key issuing.key device.key root.pem issuing.pem authorities.pem
